"""A canvas on which the boxes of a caption's elements are drawn, moved and resized, with pointer or keys.

A `gr.HTML` with a script (static/boxes.js); its `edit` event comes when a box is let go.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.parts.scripted import build_scripted

MAX_ELEMENTS = 64
Box = tuple[int, int, int, int]
"""ymin, xmin, ymax, xmax in thousandths of the picture, as in captions."""


def build_boxes(value: dict[str, Any], elem_id: str) -> gr.HTML:
    """Adds the component to the current Blocks context; its value is what `canvas` returns, and `read` understands what comes back."""
    return build_scripted("boxes", value, elem_id)


def canvas(elements: list[tuple[str, str, Box | None]], selected: int, size: tuple[int, int]) -> dict[str, Any]:
    """The value for elements (label, "obj" or "text", box) on a picture of `size`, width and height; `selected` may be -1."""
    rows = [{"label": label, "kind": kind, "bbox": None if box is None else list(box)} for label, kind, box in elements]
    return {"aspect": size[0] / size[1], "selected": selected, "elements": rows}


def frozen() -> dict[str, Any]:
    """The value that leaves what is drawn, and lets nobody edit it, nor what stands in a `.q8-editing`, until the next `canvas`."""
    return canvas([], -1, (1, 1)) | {"frozen": True}


def in_answer(value: dict[str, Any], asked: object) -> dict[str, Any]:
    """The value with the number of edits that the page's value `asked` knew of: the page ignores what came before its last edit."""
    turn = asked.get("turn") if isinstance(asked, dict) else None
    return value | {"turn": turn} if type(turn) is int and 0 <= turn < 2**53 else value


def drawn(value: object) -> Box | None:
    """The box of a new element in a value that came from a page. Raises RequestError: it is no box."""
    found = value.get("drawn") if isinstance(value, dict) else None
    try:
        return _box(found)
    except ValueError:
        raise RequestError("the new box is none in thousandths; reload the page") from None


def read(value: object) -> tuple[list[Box | None], int]:
    """The boxes and the selected index of a value that came from a page.

    Raises:
        RequestError: it is not of the form that `canvas` gives.
    """
    try:
        rows = value["elements"]  # type: ignore[index]
        selected = value["selected"]  # type: ignore[index]
        if not isinstance(rows, list) or len(rows) > MAX_ELEMENTS or type(selected) is not int:
            raise TypeError
        return [_box(row["bbox"]) for row in rows], selected if -1 <= selected < len(rows) else -1
    except (TypeError, KeyError, ValueError):
        raise RequestError(f"the layout is not one of up to {MAX_ELEMENTS} boxes in thousandths; reload the page") from None


def _box(value: object) -> Box | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(type(side) is int and 0 <= side <= 1000 for side in value):
        raise ValueError
    top, left, bottom, right = value
    if top >= bottom or left >= right:
        raise ValueError
    return top, left, bottom, right
