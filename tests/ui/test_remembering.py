"""What the browser kept is looked at like everything that a visitor sends."""

from __future__ import annotations

import json

import gradio as gr
import pytest

from ideogram_q8.ui.parts.remembering import restored


def fields() -> list[gr.components.Component]:
    return [
        gr.Textbox("x", label="Caption"),
        gr.Radio(["a", "b"], value="a"),
        gr.Slider(64, 512, 64),
        gr.CheckboxGroup(["a", "b"]),
    ]


def test_what_is_allowed_comes_back() -> None:
    assert restored(fields(), json.dumps(["y", "b", 128, ["b"]])) == ["y", "b", 128, ["b"]]


@pytest.mark.parametrize(
    "found", [None, 3, "", "{", "[" * 100_000, "{}", "[1, 2]", json.dumps([3, "c", 7, ["c"]]), json.dumps([[], {}, None, "b"])]
)
def test_what_is_not_leaves_the_form(found: object) -> None:
    assert [str(value) for value in restored(fields(), found)] == [str(gr.skip())] * 4
