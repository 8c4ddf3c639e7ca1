"""A row of colours, each with the browser's own picker: a `gr.HTML` with a script (static/palette.js)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.parts.scripted import build_scripted


def build_palette(most: int, elem_id: str) -> gr.HTML:
    """Adds the component to the current Blocks context; its value is what `colours` returns. `edit` comes with every edit."""
    return build_scripted("palette", colours((), most), elem_id)


def colours(palette: Sequence[str], most: int) -> dict[str, Any]:
    """The value for colours as `#RRGGBB`, and how many there may be."""
    return {"colors": list(palette), "most": most}


def read(value: object, most: int) -> tuple[str, ...]:
    """The colours of a value that came from a page. Raises RequestError: they are none, or too many."""
    found = value.get("colors") if isinstance(value, dict) else None
    if not isinstance(found, list) or len(found) > most:
        raise RequestError(f"the palette is not a list of up to {most} colours; reload the page")
    if not all(isinstance(colour, str) and re.fullmatch(r"#[0-9A-F]{6}", colour) for colour in found):
        raise RequestError("the palette holds what is no colour of the form #RRGGBB; reload the page")
    return tuple(found)
