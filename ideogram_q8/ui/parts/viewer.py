"""A viewer for two to four pictures of one size: slider, side by side, fade and difference, with zoom and pan in common.

Gradio's own slider shows two pictures and neither zooms nor subtracts; this is a `gr.HTML` with a script (static/viewer.js) and
nothing to install or build. Not a subclass of it: Gradio writes a .pyi file beside each subclass's source.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ideogram_q8.ui.parts.scripted import build_scripted


def build_viewer(value: dict[str, Any], elem_id: str) -> gr.HTML:
    """Adds the component to the current Blocks context; its value is what `shown` or `nothing` returns."""
    return build_scripted("viewer", value, elem_id)


def shown(pictures: Sequence[tuple[Path, str]], size: tuple[int, int]) -> dict[str, Any]:
    """The value for pictures (file in the outputs folder, title) of `size`, width and height."""
    return {"pictures": [{"src": address(path), "title": title} for path, title in pictures], "aspect": size[0] / size[1]}


def nothing(note: str) -> dict[str, Any]:
    """The value before there is anything to see; `note` says what to do."""
    return {"pictures": [], "note": note}


def address(path: Path) -> str:
    """Where the page finds a file of the outputs folder, relative to itself: the app may sit behind a proxy's path."""
    return "gradio_api/file=" + urllib.parse.quote(str(path))
