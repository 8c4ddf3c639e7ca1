"""Boxes as other programs and people write them, to thousandths where their unit is certain.

What is certain: fractions (0 to 1, with a point in at least one number), percentages, numbers up to 1000 in a list (the schema's own
unit), and pixels where the picture's size is given: all boxes of a caption are of one unit, so numbers above 1000 make pixels of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ideogram_q8.captions.json_form import BOX_LIMIT
from ideogram_q8.captions.keys import compact

Size = tuple[int, int]
"""Width and height in pixels."""
_NUMBER = re.compile(r"(-?\d{1,6}(?:\.\d{1,18})?)(%|px)?")
_MAX_TEXT = 100
_CORNERS = ("ymin xmin ymax xmax", "y1 x1 y2 x2", "top left bottom right", "y0 x0 y1 x1", "miny minx maxy maxx")
_EDGES = ("y x h w", "y x height width", "top left height width", "ymin xmin height width")
_NAMED = {frozenset(names.split()): (names.split(), names in _EDGES) for names in (*_CORNERS, *_EDGES)}


@dataclass(frozen=True)
class _Sides:
    """ymin, xmin, ymax, xmax as written. `unit` is `%` or `px` where each number has it."""

    values: tuple[float, float, float, float]
    is_whole: bool
    is_named: bool = False
    unit: str = ""

    @property
    def is_fraction(self) -> bool:
        return not self.unit and max(self.values) <= 1 and not self.is_whole


@dataclass(frozen=True)
class Units:
    """What the boxes of one caption say about each other: whether they are pixels of a size, fractions, or thousandths."""

    size: Size | None
    has_pixels: bool
    has_fractions: bool
    has_thousandths: bool


def units_of(boxes: Iterable[object], size: Size | None) -> Units:
    """Reads all boxes of a caption; `size` is that of the picture, where it is known."""
    sides = [found for found in map(_sides, boxes) if found is not None]
    large = [each for each in sides if max(each.values) > BOX_LIMIT and each.unit != "%"]
    fits = size is not None and all(_fits(each, size) for each in large)
    relative = [each for each in sides if not each.is_named and max(each.values) > 1 and not each.unit]
    fractions = [each for each in sides if each.is_fraction]
    certain = [each for each in [*relative, *fractions] if _thousandths(each, 1000 if each.is_fraction else 1) is not None]
    return Units(size, bool(large) and fits, bool(fractions), bool(certain) and not large)


def read_box(box: object, units: Units) -> tuple[list[int], str] | None:
    """Four whole thousandths [ymin, xmin, ymax, xmax], and the unit they were written in; None where that is not certain.

    A box without area comes back as an empty list.
    """
    sides = _sides(box)
    if sides is None or min(sides.values) < 0:
        return None
    unit = _unit(sides, units)
    if unit is None:
        return None
    if unit == "pixels":
        if units.size is None or not _fits(sides, units.size):
            return None
        width, height = units.size
        found = _thousandths(sides, BOX_LIMIT / height, BOX_LIMIT / width)
    else:
        found = _thousandths(sides, {"fractions": BOX_LIMIT, "percent": BOX_LIMIT / 100, "thousandths": 1}[unit])
    return None if found is None else (found if found[0] < found[2] and found[1] < found[3] else [], unit)


def _unit(sides: _Sides, units: Units) -> str | None:
    largest = max(sides.values)
    if sides.unit:
        return {"%": "percent", "px": "pixels"}[sides.unit]
    if sides.is_fraction or (largest <= 1 and units.has_fractions):
        return "fractions"
    if units.has_pixels or largest > BOX_LIMIT or (sides.is_named and units.size is not None):
        return "pixels"
    if (sides.is_named and not units.has_thousandths) or any(0 < value < 1 for value in sides.values):
        return None
    return "thousandths"


def _fits(sides: _Sides, size: Size) -> bool:
    width, height = size
    ymin, xmin, ymax, xmax = sides.values
    return min(sides.values) >= 0 and max(ymin, ymax) <= height and max(xmin, xmax) <= width


def _thousandths(sides: _Sides, vertical: float, horizontal: float | None = None) -> list[int] | None:
    """Rounded and in order; None where it is not within the picture."""
    factors = vertical, vertical if horizontal is None else horizontal
    top, left, bottom, right = (round(value * factors[i % 2]) for i, value in enumerate(sides.values))
    found = [min(top, bottom), min(left, right), max(top, bottom), max(left, right)]
    return found if all(0 <= side <= BOX_LIMIT for side in found) else None


def _sides(box: object) -> _Sides | None:
    if isinstance(box, str):
        text = box.strip().strip("[](){}")
        return _listed(re.split(r"[,;\s]+", text.strip())) if len(box) <= _MAX_TEXT else None
    if isinstance(box, dict):
        return _named(box)
    return _listed(box) if isinstance(box, list) else None


def _named(box: dict[Any, Any]) -> _Sides | None:
    names, is_edges = _NAMED.get(frozenset(map(compact, box)), ([], False))
    if not names or len(box) != 4:
        return None
    by_name = {compact(key): value for key, value in box.items()}
    sides = _listed([by_name[name] for name in names])
    if sides is None:
        return None
    top, left, bottom, right = sides.values
    values = (top, left, top + bottom, left + right) if is_edges else sides.values
    if is_edges and min(bottom, right) < 0:
        return None
    return _Sides(values, sides.is_whole, True, sides.unit)


def _listed(items: list[Any]) -> _Sides | None:
    read = [_number(item) for item in items] if len(items) == 4 else []
    found = [each for each in read if each is not None]
    units = {unit for _, _, unit in found}
    if len(found) != 4 or len(units) != 1:
        return None
    top, left, bottom, right = (value for value, _, _ in found)
    return _Sides((top, left, bottom, right), all(whole for _, whole, _ in found), unit=units.pop())


def _number(item: object) -> tuple[float, bool, str] | None:
    """Value, whether it is written without a point, and its unit; `true` is no number."""
    if type(item) in (int, float):
        assert isinstance(item, int | float)
        return (float(item), isinstance(item, int), "") if abs(item) < 1e6 else None
    match = _NUMBER.fullmatch(item.strip()) if isinstance(item, str) and len(item) <= _MAX_TEXT else None
    return None if match is None else (float(match[1]), "." not in match[1], match[2] or "")
