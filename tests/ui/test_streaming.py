"""Callbacks as an iterator: order, errors, and cancelling by closing."""

from __future__ import annotations

import threading
import time
import weakref

import pytest

from ideogram_q8.ui.engine.streaming import Cancelled, Emit, stream


def test_values_arrive_in_order() -> None:
    def work(emit: Emit[int]) -> None:
        for value in range(100):
            emit(value)

    assert list(stream(work)) == list(range(100))


def test_an_error_arrives_after_the_values_before_it() -> None:
    def work(emit: Emit[int]) -> None:
        emit(1)
        raise ValueError("broken")

    events = stream(work)
    assert next(events) == 1
    with pytest.raises(ValueError, match="broken"):
        next(events)


def test_closing_stops_the_work_at_its_next_report() -> None:
    go_on, ended = threading.Event(), threading.Event()
    reports = []

    def work(emit: Emit[int]) -> None:
        try:
            emit(1)
            go_on.wait(20)
            reports.append("between")
            emit(2)
            reports.append("never")
        except Cancelled:
            reports.append("cancelled")
            raise
        finally:
            ended.set()

    events = stream(work)
    assert next(events) == 1
    events.close()
    go_on.set()
    assert ended.wait(20)
    assert reports == ["between", "cancelled"]


def test_one_thread_does_one_job_after_the_other_and_two_at_once_have_two() -> None:
    def who(emit: Emit[int]) -> None:
        emit(threading.get_ident())

    assert len({ident for _ in range(20) for ident in stream(who)}) == 1
    first = stream(who)
    assert list(stream(lambda emit: emit(next(first) == threading.get_ident()))) == [False]


def test_a_waiting_thread_holds_nothing_of_its_last_job() -> None:
    class Large:
        pass

    large = Large()
    seen = weakref.ref(large)
    list(stream(lambda emit, kept=large: emit(kept is not None)))
    del large
    deadline = time.monotonic() + 20
    while seen() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen() is None
