"""Mends what can be mended in a caption without guessing at its meaning, and says what was done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ideogram_q8.captions.json_form import BOX_LIMIT, ELEMENT_PALETTE_MAX, STYLE_PALETTE_MAX

_TOP = ("high_level_description", "style_description", "compositional_deconstruction")
_COMPOSITION = ("background", "elements")
_STYLES = {
    "photo": ("aesthetics", "lighting", "photo", "medium", "color_palette"),
    "art_style": ("aesthetics", "lighting", "medium", "art_style", "color_palette"),
}
_ELEMENTS = {"obj": ("type", "bbox", "desc", "color_palette"), "text": ("type", "bbox", "text", "desc", "color_palette")}
_OPTIONAL = {"high_level_description", "style_description", "bbox", "color_palette"}


def repair(caption: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A caption with keys in order, none missing and none too many, sound boxes and colours; and a sentence for each thing mended.

    What it cannot mend (a number where a text belongs) stays, and `caption.lint` names it. A sound caption comes back as it is.
    """
    done: list[str] = []
    composition = caption.get("compositional_deconstruction")
    value: dict[str, Any] = {**caption}
    if not isinstance(composition, dict):
        value["compositional_deconstruction"] = {}
    value = _ordered(value, _TOP, "the caption", done)
    body = _ordered(value["compositional_deconstruction"], _COMPOSITION, "compositional_deconstruction", done)
    if isinstance(body["elements"], list):
        body["elements"] = [_element(item, f"element {i}", done) for i, item in enumerate(body["elements"], 1)]
    value["compositional_deconstruction"] = body
    if isinstance(value.get("style_description"), dict):
        value["style_description"] = _style(value["style_description"], done)
    return value, done


def _style(style: Mapping[str, Any], done: list[str]) -> dict[str, Any]:
    kind = "photo" if "photo" in style else "art_style"
    mended = _ordered(style, _STYLES[kind], "style_description", done)
    return _with_palette(mended, STYLE_PALETTE_MAX, "style_description", done)


def _element(item: object, where: str, done: list[str]) -> object:
    if not isinstance(item, dict):
        return item
    kind = item.get("type")
    if kind not in ("obj", "text"):
        kind = "text" if "text" in item else "obj"
        done.append(f"{where}: type is {kind}")
    mended = _ordered({**item, "type": kind}, _ELEMENTS[kind], where, done)
    if "bbox" in mended:
        box = _box(mended["bbox"])
        if box != mended["bbox"]:
            done.append(f"{where}: the box is {box}" if box else f"{where}: its box was none and is left out")
        mended = {key: box if key == "bbox" else item for key, item in mended.items() if key != "bbox" or box}
    return _with_palette(mended, ELEMENT_PALETTE_MAX, where, done)


def _ordered(value: Mapping[str, Any], order: tuple[str, ...], where: str, done: list[str]) -> dict[str, Any]:
    """The known keys in `order`; required ones that are missing are empty."""
    unknown = [key for key in value if key not in order]
    missing = [key for key in order if key not in value and key not in _OPTIONAL]
    empty: dict[str, Any] = {"elements": [], "compositional_deconstruction": {}}
    found = {key: value[key] if key in value else empty.get(key, "") for key in order if key in value or key in missing}
    if unknown:
        done.append(f"{where}: left out {', '.join(map(str, unknown))}")
    if missing:
        done.append(f"{where}: added {', '.join(missing)}")
    if [key for key in value if key in order] != [key for key in order if key in value]:
        done.append(f"{where}: keys are in the order of training")
    return found


def _box(box: object) -> list[int] | None:
    """Four whole numbers in range and in order; None where there are no four numbers or no area."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(side) in (int, float) and abs(side) < 1e6 for side in box):
        return None
    top, left, bottom, right = (min(max(round(side), 0), BOX_LIMIT) for side in box)
    found = [min(top, bottom), min(left, right), max(top, bottom), max(left, right)]
    return found if found[0] < found[2] and found[1] < found[3] else None


def _with_palette(value: dict[str, Any], most: int, where: str, done: list[str]) -> dict[str, Any]:
    palette = value.get("color_palette")
    if not isinstance(palette, list):
        return value
    colours = [found for found in map(_colour, palette) if found][:most]
    if colours != palette:
        done.append(f"{where}: the palette is {', '.join(colours) or 'left out'}")
    rest = {key: item for key, item in value.items() if key != "color_palette"}
    return rest | {"color_palette": colours} if colours else rest


def _colour(colour: object) -> str | None:
    digits = str(colour).strip().lstrip("#").upper() if isinstance(colour, str) else ""
    if re.fullmatch(r"[0-9A-F]{3}", digits):
        digits = "".join(2 * digit for digit in digits)
    return f"#{digits}" if re.fullmatch(r"[0-9A-F]{6}", digits) else None
