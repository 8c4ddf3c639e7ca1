"""The line is fair: one waiting job for each session, few for each visitor, none for ever; sessions make room for their own visitor's."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.doors.limits import Quota, visitor
from ideogram_q8.ui.engine import jobs as jobs_module
from ideogram_q8.ui.engine import line as line_module
from ideogram_q8.ui.engine.jobs import Job, Jobs, follow
from ideogram_q8.ui.engine.line import WAIT_SECONDS, Line, Sessions


class Queue:
    """As much of Gradio's as the line uses; nothing ever leaves it."""

    def __init__(self) -> None:
        fns = {0: SimpleNamespace(concurrency_id="device"), 1: SimpleNamespace(concurrency_id="quick")}
        self.blocks = SimpleNamespace(fns=fns)
        self.event_queue_per_concurrency_id: dict[str, Any] = defaultdict(lambda: SimpleNamespace(queue=[]))
        self.told: list[tuple[Any, Any]] = []

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        line = self.blocks.fns[body.fn_index].concurrency_id
        event = SimpleNamespace(
            session_hash=body.session_hash,
            username=username,
            request=request,
            concurrency_id=line,
            enqueue_time=time.monotonic(),
        )
        self.event_queue_per_concurrency_id[line].queue.append(event)
        return True, "id", "success"

    def send_message(self, event: Any, message: Any) -> None:
        self.told.append((event, message))


def ask(line: Line, session: str | None, address: str, fn: int | None = 0, account: str | None = None) -> Any:
    body = SimpleNamespace(fn_index=fn, session_hash=session)
    request = SimpleNamespace(client=SimpleNamespace(host=address), headers={})
    return asyncio.run(line.push(body, request, account))


def test_a_greedy_client_leaves_places_to_others() -> None:
    line = Line(Queue(), "device", 8, 3)
    assert ask(line, "a", "10.0.0.1")[0]
    assert "waits already" in ask(line, "a", "10.0.0.1")[1]
    greedy = [ask(line, f"invented-{i}", "10.0.0.1") for i in range(50)]
    assert sum(found[0] for found in greedy) == 2 and greedy[-1][2] == "queue_full" and "of yours" in greedy[-1][1]
    assert not ask(line, None, "10.0.0.1")[0]
    assert ask(line, "honest", "10.0.0.2")[0]


def test_accounts_are_counted_and_not_their_common_address() -> None:
    line = Line(Queue(), "device", 8, 3)
    assert all(ask(line, f"s{i}{name}", "10.0.0.1", account=name)[0] for name in ("alice", "bob") for i in range(3))
    assert not ask(line, "more", "10.0.0.9", account="alice")[0]


def test_calls_that_need_no_device_do_not_fill_its_line() -> None:
    line = Line(Queue(), "device", 2, 2)
    quick = [ask(line, "a", "10.0.0.1", fn=1)[0] for _ in range(50)]
    assert quick.count(True) == 16
    assert ask(line, "a", "10.0.0.1")[0] and ask(line, "b", "10.0.0.2")[0]
    assert "the queue is full" in ask(line, "c", "10.0.0.3")[1]
    assert ask(line, "c", "10.0.0.3", fn=9) == (False, "there is no such endpoint", "error")


def test_what_has_waited_for_too_long_goes_and_is_told() -> None:
    queue = Queue()
    line = Line(queue, "device", 1, 1)
    ask(line, "a", "10.0.0.1")
    (event,) = queue.event_queue_per_concurrency_id["device"].queue
    event.enqueue_time -= WAIT_SECONDS + 1
    assert ask(line, "b", "10.0.0.2")[0]
    assert [each for each, _ in queue.told] == [event] and not queue.told[0][1].success


def test_expected_jobs_are_few_and_expire() -> None:
    """Six thousand empty sessions stood before every honest visitor."""
    now = [0.0]
    jobs = Jobs(clock=lambda: now[0])
    for i in range(6000):
        jobs.expect(f"invented-{i}", "t", "10.0.0.1")
    jobs.expect("honest", "t", "10.0.0.2")
    assert jobs.ahead("honest", "t") == jobs_module.MOST_OF_ONE
    for i in range(6000):
        jobs.expect(f"more-{i}", "t", f"10.0.{i // 250}.{i % 250}")
    assert len(jobs._jobs) <= jobs_module.MOST
    jobs.expect("honest", "t", "10.0.0.2")
    now[0] = jobs_module.WAIT_SECONDS - 1
    jobs.ahead("honest", "t")  # its page is there
    now[0] += 2
    jobs.expect("other", "t", "10.0.0.3")
    assert jobs.ahead("honest", "t") == 0 and jobs.ahead("other", "t") == 1


@pytest.fixture(scope="module")
def empty_page() -> gr.Blocks:
    async def build() -> gr.Blocks:
        """In a loop: without one, Gradio makes several and closes none."""
        with gr.Blocks() as page:
            gr.Textbox()
        return page

    return asyncio.run(build())


def test_a_session_makes_room_for_the_next_of_its_visitor(empty_page: gr.Blocks) -> None:
    sessions = Sessions(of_one=3)
    sessions.set_blocks(empty_page)
    visitor.set("10.0.0.2")
    sessions["honest"]
    visitor.set("10.0.0.1")
    for i in range(100):
        sessions[f"invented-{i}"]
    assert set(sessions.session_data) == {"honest", "invented-97", "invented-98", "invented-99"}
    assert set(sessions.time_last_used) == set(sessions.session_data)


def test_sessions_that_nobody_uses_end_and_those_with_an_open_page_stay(
    empty_page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions()
    sessions.set_blocks(empty_page)
    visitor.set("10.0.0.1")
    for name in ("left", "open", "used"):
        sessions[name]
    monkeypatch.setattr(line_module, "IDLE_SECONDS", 0.05)
    with sessions.page("open"), sessions.page("left"):
        with sessions.page("open"):  # a page that loads its stream again
            pass
        time.sleep(0.1)
        sessions["used"]
        with sessions.page("left"):
            pass
        sessions.expire()
        assert set(sessions.session_data) == {"left", "open", "used"}
    sessions.expire()
    assert set(sessions.session_data) == {"left", "open", "used"}  # from now on they are left
    time.sleep(0.1)
    sessions.expire()
    assert not sessions.session_data and not sessions.time_last_used and not sessions._of and not sessions._pages


def test_pictures_have_a_quota() -> None:
    quota = Quota(10, "pictures")
    quota.spend("a", 10)
    job = Job(visitor="a", pictures=quota)
    with pytest.raises(RequestError, match="more pictures than one visitor may have"):
        next(follow((event for event in ()), job, lambda _: ("", {})))
