"""Mends what can be mended in a caption without guessing at its meaning, and says what was done.

What is not understood stays where it is, and `caption.lint` names it: an unknown key, a box of which the unit is not certain, a colour
that is none. Nothing of the writer's goes without a finding that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ideogram_q8.captions.box_forms import Size, Units, read_box, units_of
from ideogram_q8.captions.colours import read_palette
from ideogram_q8.captions.findings import Finding, quoted, strings_in
from ideogram_q8.captions.json_form import ELEMENT_PALETTE_MAX, STYLE_PALETTE_MAX
from ideogram_q8.captions.keys import (
    COMPOSITION,
    ELEMENT,
    ELEMENTS,
    STYLE,
    STYLES,
    TOP,
    is_element,
    join,
    ordered,
    renamed,
    standard,
)
from ideogram_q8.captions.keys import without_extras as without

_BODY, _STYLE = "compositional_deconstruction", "style_description"
_KINDS = {"object": "obj", "obj": "obj", "objects": "obj", "text": "text", "txt": "text"}
_SIDES = frozenset("x y w h width height x1 y1 x2 y2 xmin ymin xmax ymax left top right bottom".split())


def repair(caption: Mapping[str, Any], size: Size | None = None) -> tuple[dict[str, Any], list[Finding]]:
    """A caption with keys in order and none missing, sound boxes and colours; and a finding for each thing mended.

    What it cannot mend (a number where a text belongs) stays, and `caption.lint` names it. A sound caption comes back as it is, but
    for boxes without area, and mending twice is mending once.

    Args:
        size: width and height of the picture where boxes are in pixels.
    """
    done: list[Finding] = []
    value = without(_gathered(renamed(caption, (*TOP, "elements"), "", done), done), TOP, "", done)
    body = value.get(_BODY)
    if isinstance(body, list):
        done.append(Finding(_BODY, "moved", "a list is read as the elements"))
        body = {"elements": body}
    value[_BODY] = {} if body is None else body
    value = ordered(value, TOP, "", done)
    if isinstance(value[_BODY], dict):
        value[_BODY] = _composition(value[_BODY], size, done)
    if isinstance(value.get(_STYLE), dict):
        value[_STYLE] = _style(value[_STYLE], done)
    return value, done


def without_unknown(caption: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """A mended caption without the keys that training does not know, each named; for captions that a language model wrote."""
    done: list[Finding] = []
    value = _known(caption, TOP, "", done)
    if isinstance(value.get(_STYLE), dict):
        kind = next((kind for kind in STYLES if kind in value[_STYLE]), "art_style")
        value[_STYLE] = _known(value[_STYLE], STYLES[kind], _STYLE, done)
    body = value.get(_BODY)
    if isinstance(body, dict):
        body = value[_BODY] = _known(body, COMPOSITION, _BODY, done)
        items = body["elements"] if isinstance(body.get("elements"), list) else []
        for i, item in enumerate(items):
            if isinstance(item, dict) and item.get("type") in ("obj", "text"):
                items[i] = _known(item, ELEMENTS[item["type"]], f"{_BODY}.elements[{i}]", done)
    return value, done


def _known(value: Mapping[str, Any], order: tuple[str, ...], place: str, done: list[Finding]) -> dict[str, Any]:
    for key, item in value.items():
        if key not in order:
            done.append(Finding(place, "left out", f"left out {join('', key)}, which was {quoted(item)}", strings_in(item)))
    return {key: item for key, item in value.items() if key in order}


def _gathered(value: dict[str, Any], done: list[Finding]) -> dict[str, Any]:
    """With what belongs into the composition or the style moved there from the top, where there is a place for it."""
    for home, keys in ((_BODY, COMPOSITION), (_STYLE, STYLE)):
        inner = value.get(home)
        if inner is not None and not isinstance(inner, dict):
            continue
        inner = dict(inner or {})
        there = {standard(key, keys) for key in inner}
        moved = {key: name for key in value if (name := standard(key, keys)) and name not in there and key not in TOP}
        if len(set(moved.values())) < len(moved) or not moved:
            continue
        for key, name in moved.items():
            done.append(Finding(join("", key), "moved", f"moved to {home}.{name}"))
            inner[name] = value[key]
        value = {key: item for key, item in value.items() if key not in moved} | {home: inner}
    return value


def _composition(body: Mapping[str, Any], size: Size | None, done: list[Finding]) -> dict[str, Any]:
    mended = ordered(without(renamed(body, COMPOSITION, _BODY, done), COMPOSITION, _BODY, done), COMPOSITION, _BODY, done)
    place = f"{_BODY}.elements"
    if is_element(mended["elements"]):
        done.append(Finding(place, "moved", "one element is read as a list of one"))
        mended["elements"] = [mended["elements"]]
    if isinstance(mended["elements"], list):
        items = [_spelled(item, f"{place}[{i}]", done) for i, item in enumerate(mended["elements"])]
        units = units_of([item["bbox"] for item in items if isinstance(item, dict) and "bbox" in item], size)
        mended["elements"] = [_element(item, f"{place}[{i}]", units, done) for i, item in enumerate(items)]
    return mended


def _style(style: Mapping[str, Any], done: list[Finding]) -> dict[str, Any]:
    named = renamed(style, STYLE, _STYLE, done)
    kinds = [kind for kind in STYLES if named.get(kind)] or [kind for kind in STYLES if kind in named]
    order = STYLES[kinds[0] if kinds else "art_style"]
    return _with_palette(ordered(without(named, order, _STYLE, done), order, _STYLE, done), STYLE_PALETTE_MAX, _STYLE, done)


def _spelled(item: object, place: str, done: list[Finding]) -> object:
    """An element with its keys as in training, and its box under `bbox`; anything else as it is."""
    if isinstance(item, str) and item.strip():
        done.append(Finding(place, "converted", "a text is read as the description of an object"))
        return {"type": "obj", "desc": item}
    if not isinstance(item, dict):
        return item
    metadata = item.get("metadata")
    if isinstance(metadata, dict) and not set(metadata) & set(item):
        done.append(Finding(f"{place}.metadata", "moved", f"its keys are moved to {place}"))
        item = {key: value for key, value in item.items() if key != "metadata"} | metadata
    found = renamed(item, ELEMENT, place, done)
    sides = {key: value for key, value in found.items() if key in _SIDES}
    if len(sides) == 4 and "bbox" not in found:
        done.append(Finding(place, "moved", f"{', '.join(sides)} are read as its box"))
        found = {key: value for key, value in found.items() if key not in sides} | {"bbox": sides}
    return found


def _element(item: object, place: str, units: Units, done: list[Finding]) -> object:
    if not isinstance(item, dict):
        return item
    kind = _kind(item, place, done)
    order = ELEMENTS[kind]
    mended = ordered(_with_box(without(item | {"type": kind}, order, place, done), place, units, done), order, place, done)
    return _with_palette(mended, ELEMENT_PALETTE_MAX, place, done)


def _kind(item: Mapping[str, Any], place: str, done: list[Finding]) -> str:
    given = item.get("type")
    if given in ("obj", "text"):
        return str(given)
    kind = _KINDS.get(given.strip().lower()) if isinstance(given, str) else None
    kind = kind or ("text" if item.get("text") else "obj")
    was = "" if given is None else f", was {quoted(given)}"
    done.append(Finding(f"{place}.type", "added" if given is None else "converted", f"type is {kind}{was}", strings_in(given)))
    return kind


def _with_box(element: dict[str, Any], place: str, units: Units, done: list[Finding]) -> dict[str, Any]:
    """With its box in thousandths; one that says that there is none, or that has no area, is left out."""
    if "bbox" not in element:
        return element
    box = element["bbox"]
    is_none = isinstance(box, str) and box.strip().lower() in ("", "null", "none", "~")
    found = ([], "") if is_none or box == [] else read_box(box, units)
    if found is None or found[0] == box:
        return element
    sides, unit = found
    if sides:
        scale = {"pixels": f" in pixels of {units.size[0]}x{units.size[1]}" if units.size else ""}.get(unit, f" in {unit}")
        said = Finding(f"{place}.bbox", "converted", f"the box is {sides}, was {_box_text(box)}{scale}", strings_in(box))
        done.append(said)
        return element | {"bbox": sides}
    why = "says that there is none" if not unit else "has no area"
    done.append(Finding(f"{place}.bbox", "left out", f"left out the box {_box_text(box)}, which {why}", strings_in(box)))
    return {key: value for key, value in element.items() if key != "bbox"}


def _box_text(box: object) -> str:
    """The numbers of a box as they were written; `read_box` has seen that there are four."""
    if isinstance(box, dict):
        return ", ".join(f"{key} {value}" for key, value in box.items())
    return quoted(box) if isinstance(box, str) else str(box)


def _with_palette(value: dict[str, Any], most: int, place: str, done: list[Finding]) -> dict[str, Any]:
    if "color_palette" not in value:
        return value
    return value | {"color_palette": read_palette(value["color_palette"], most, f"{place}.color_palette", done)}
