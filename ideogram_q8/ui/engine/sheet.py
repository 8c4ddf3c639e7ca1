"""A comparison as one PNG: pictures side by side with what is known of each below it, for people to pass on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ideogram_q8.measure.words.lettering import font

_MARGIN, _LINE = 24, 24
_INK, _PAPER, _FAINT = "#111827", "#ffffff", "#4b5563"
_TITLE_SIZE, _TEXT_SIZE = 22, 15
_CAPTION_LINES = 6


@dataclass(frozen=True)
class Panel:
    """One picture, its title and lines of facts."""

    picture: Image.Image
    title: str
    facts: Sequence[str]


def sheet(rows: Sequence[Sequence[Panel]], caption: str, foot: str) -> Image.Image:
    """All panels as rows (a row per seed, say), the caption above them, `foot` below; RGB, pictures at full size."""
    columns = max(len(row) for row in rows)
    cell_width = max(260, *(panel.picture.width for row in rows for panel in row))
    width = columns * cell_width + (columns + 1) * _MARGIN
    above = _wrapped(caption, width, _CAPTION_LINES)
    heights = [_row_height(row) for row in rows]
    top = _MARGIN + _LINE * len(above) + _MARGIN // 2
    made = Image.new("RGB", (width, top + sum(heights) + _LINE + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(made)
    for i, line in enumerate(above):
        draw.text((_MARGIN, _MARGIN + i * _LINE), line, _INK, font(_TEXT_SIZE))
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            _place(made, panel, _MARGIN + column * (cell_width + _MARGIN), top)
        top += height
    draw.text((_MARGIN, top), foot, _FAINT, font(_TEXT_SIZE))
    return made


def _row_height(row: Sequence[Panel]) -> int:
    return max(panel.picture.height + 2 * _LINE + _LINE * len(panel.facts) for panel in row) + _MARGIN


def _place(made: Image.Image, panel: Panel, left: int, top: int) -> None:
    draw = ImageDraw.Draw(made)
    draw.text((left, top), panel.title, _INK, font(_TITLE_SIZE))
    made.paste(panel.picture, (left, top + _LINE + 6))
    below = top + _LINE + panel.picture.height + 14
    for i, fact in enumerate(panel.facts):
        draw.text((left, below + i * _LINE), fact, _FAINT, font(_TEXT_SIZE))


def _wrapped(text: str, width: int, limit: int) -> list[str]:
    """Lines that fit about `width` pixels; cut after `limit` of them."""
    lines = textwrap.wrap(text, max(20, int(width / (0.55 * _TEXT_SIZE))), max_lines=limit, placeholder=" …")
    return lines or [""]
