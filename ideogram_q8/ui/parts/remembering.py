"""The form kept in the browser: it comes back after a reload and after the server's restart, whatever of it is still offered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.doors import arguments

STORAGE_KEY = "ideogram-q8-form"
_KEEP = """(...values) => {
  const kept = values.pop();
  return globalThis.q8Restored ? JSON.stringify(values) : kept;
}"""
"""Runs in the browser alone. What changes before the form is back is not what the visitor chose."""


def build_remembering(page: gr.Blocks, fields: Sequence[gr.components.Component]) -> Any:
    """Adds the store to the current Blocks context and fills `fields` from it when the page loads; returns the event after that."""
    kept = gr.BrowserState(storage_key=STORAGE_KEY, secret="ideogram-q8")

    def restore(found: object) -> list[object]:
        return restored(fields, found)

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    back = page.load(restore, kept, list(fields), **quiet)
    ready = back.then(None, js="() => { globalThis.q8Restored = true; }")
    changes = [field.change for field in fields]
    gr.on(changes, None, [*fields, kept], kept, js=_KEEP, **quiet)
    return ready


def restored(fields: Sequence[gr.components.Component], found: object) -> list[object]:
    """A value for each field from the text that the browser kept; a field stays as it is where its value is not, or no more, allowed."""
    try:
        values = json.loads(found) if isinstance(found, str) else []
    except (ValueError, RecursionError):
        values = []
    if not isinstance(values, list) or len(values) != len(fields):
        return [gr.skip() for _ in fields]
    return [_allowed(field, value) for field, value in zip(fields, values, strict=True)]


def _allowed(field: Any, value: object) -> object:
    try:
        checked = arguments.check(field, value)
    except RequestError:
        return gr.skip()
    names = {name for _, name in field.choices} if isinstance(field, gr.Radio | gr.CheckboxGroup) else None
    chosen = checked if isinstance(checked, list) else [checked]
    return checked if names is None or names.issuperset(chosen) else gr.skip()
