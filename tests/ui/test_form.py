"""Mistakes of a visitor: a message on the page, a line in the log."""

from __future__ import annotations

import logging

import gradio as gr
import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.parts.form import as_markup, friendly_errors


def test_a_mistake_is_a_line_in_the_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ideogram_q8"), pytest.raises(gr.Error) as told, friendly_errors():
        raise RequestError("it's 100\nlong \x1b[31m")
    assert not told.value.print_exception and told.value.message.startswith("it's 100")
    (record,) = caplog.records
    assert record.getMessage() == "refused: it's 100 long \\x1b[31m" and record.exc_info is None


def test_a_defect_is_not_a_mistake(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="a defect"), friendly_errors():
        raise ValueError("a defect")
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ('it\'s "here" & there, a > b', 'it\'s "here" & there, a > b'),
        ("<b>bold</b>", "&lt;b>bold&lt;/b>"),
        ("&lt;b> &#60;b> &copy;", "&amp;lt;b> &amp;#60;b> &amp;copy;"),
        ("AT&T; &x y;", "AT&amp;T; &x y;"),
    ],
)
def test_what_would_be_markup_is_escaped_and_nothing_else(text: str, markup: str) -> None:
    assert as_markup(text) == markup
