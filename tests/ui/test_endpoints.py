"""Every argument of every endpoint is looked at: found by feeding each endpoint of the running page what nobody would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from tests.ui.site import Site, site

WRONG: tuple[Any, ...] = (
    None, True, -1, 10**30, 1e300, "", "x" * 100_000, "word " * 2000, "a \ud83d", "a\nb\x1b[2J", "/etc/passwd", [], ["x"] * 1000, [[1]], {},
    {"path": "/etc/passwd", "url": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}, {"index": "x"}, [None, {"a": [1]}],
)  # fmt: skip
LONGEST_ANSWER = 1100


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("endpoints")) as found:
        yield found


def endpoints(app: Site) -> list[Any]:
    """Those that the page's own code calls among them: whoever knows their number may call them."""
    return [fn for fn in app.page.fns.values() if fn.fn is not None]


def sound(fn: Any) -> list[Any]:
    """What the page itself would send at its start."""
    return [None if block.stateful else getattr(block, "value", None) for block in fn.inputs]


def spoilt(fn: Any) -> Iterator[list[Any]]:
    """The same with one argument after the other replaced by each of what is wrong, too few and too many."""
    values = sound(fn)
    yield [*values, 1]
    yield values[:-1] if values else [1, 2]
    for index in range(len(values)):
        for wrong in WRONG:
            yield [*values[:index], wrong, *values[index + 1 :]]


def assert_is_a_line(said: Any, app: Site) -> None:
    assert isinstance(said, str) and 0 < len(said) <= LONGEST_ANSWER and said.isprintable(), said
    assert str(app.studio.outputs.parent) not in said and "/root" not in said and "site-packages" not in said, said


def test_there_are_endpoints_of_both_kinds(app: Site) -> None:
    queued = [fn.api_name for fn in endpoints(app) if fn.queue]
    assert {"generate", "compare", "blind", "expand_caption"} <= set(queued) and len(endpoints(app)) > 40


def test_no_direct_call_ends_in_a_fault(app: Site) -> None:
    for fn in endpoints(app):
        if fn.queue:
            continue
        for data in spoilt(fn):
            for event in (None, {"index": "x"}) if fn.collects_event_data else (None,):
                body = {"data": data, "fn_index": fn._id, "session_hash": "spoilt", "event_data": event}
                answer = app.call(body)
                assert answer.status in (200, 422), (fn.name, fn.api_name, str(data)[:300], answer.text[:300])
                if answer.status == 422:
                    assert_is_a_line(json.loads(answer.text)["error"], app)


def test_no_queued_call_ends_in_a_fault(app: Site) -> None:
    """What comes before its turn; a painting checks the request itself (`Request.check`)."""

    async def all_of_them() -> int:
        calls = [app.page.preprocess_data(fn, data, None) for fn in endpoints(app) if fn.queue for data in spoilt(fn)]
        errors = [error for error in await asyncio.gather(*calls, return_exceptions=True) if isinstance(error, BaseException)]
        for error in errors:
            assert isinstance(error, gr.Error) and not error.print_exception
            assert_is_a_line(error.message, app)
        return len(errors)

    assert asyncio.run(all_of_them()) > 200


@pytest.mark.parametrize(
    ("way", "body", "status"),
    [
        ("run/nothing", {"data": []}, 422),
        ("run/predict", {"data": [], "fn_index": 9999}, 422),
        ("run/predict", {"data": [], "fn_index": -1}, 422),
        ("run/predict", {"data": {"a": 1}, "fn_index": 1}, 422),
        ("run/predict", [], 422),
        ("run/predict", "text", 422),
        ("run/generate", {"data": []}, 404),  # what computes has its turn in the line only
        ("call/nothing", {"data": []}, 422),
        ("call/v2/nothing", {}, 422),
        ("call/v2/history", {"unknown": 1}, 422),
        ("queue/join", {"data": [], "fn_index": 9999, "session_hash": "x"}, 400),
        ("queue/join", {"data": []}, 400),
        ("queue/join", {"data": [], "fn_index": None, "session_hash": {"a": 1}}, 422),
        ("cancel", {}, 422),
        ("reset", {"event_id": 7}, 422),
    ],
)
def test_a_body_of_another_form_is_refused_in_a_line(app: Site, way: str, body: Any, status: int) -> None:
    answer = app.call(body, way)
    assert answer.status == status and answer.text.count("\n") <= 1 and len(answer.text) < 300, answer.text
    assert "Traceback" not in answer.text and "site-packages" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"data": NaN', b'{"data":[],"data":'])
def test_what_is_no_json_is_refused_in_a_line(app: Site, body: bytes) -> None:
    answer = app.ask("POST", "/gradio_api/run/variants", {"Content-Type": "application/json"}, body)
    assert answer.status in (400, 422) and answer.text.count("\n") <= 1 and len(answer.text) < 300


def test_long_plain_captions_are_refused_before_they_are_linted(app: Site) -> None:
    answer = app.call({"data": ["x" * 40_000, ""]}, "run/lint_caption")
    assert answer.status == 422 and "expected at most 32768: shorten it" in answer.text
