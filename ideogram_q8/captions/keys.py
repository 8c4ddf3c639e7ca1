"""The keys of a caption's objects: their order in training, and other spellings of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ideogram_q8.captions.findings import Finding, quoted, strings_in
from ideogram_q8.errors import printable

TOP = ("high_level_description", "style_description", "compositional_deconstruction")
COMPOSITION = ("background", "elements")
STYLES = {
    "photo": ("aesthetics", "lighting", "photo", "medium", "color_palette"),
    "art_style": ("aesthetics", "lighting", "medium", "art_style", "color_palette"),
}
STYLE = ("aesthetics", "lighting", "photo", "medium", "art_style", "color_palette")
ELEMENTS = {"obj": ("type", "bbox", "desc", "color_palette"), "text": ("type", "bbox", "text", "desc", "color_palette")}
ELEMENT = ("type", "bbox", "text", "desc", "color_palette")
OPTIONAL = frozenset({"high_level_description", "style_description", "bbox", "color_palette"})
_PALETTES = dict.fromkeys(("colourpalette", "palette", "colors", "colours", "colorpalettes", "colourpalettes"), "color_palette")
_SPELLINGS = {
    **_PALETTES,
    **dict.fromkeys(("box", "boundingbox"), "bbox"),
    "description": "desc",
    "composition": "compositional_deconstruction",
}
_SETTINGS = frozenset(
    "aspectratio size resolution width height seed model version id index zindex layer confidence score".split()
)
"""Keys of other programs that say something about a picture and nothing in it; the schema has no place for them."""


def compact(key: object) -> str:
    """A key without case, blanks, hyphens and underscores: what all its spellings have in common."""
    return re.sub(r"[\W_]+", "", str(key)).lower()


def standard(key: object, known: tuple[str, ...]) -> str | None:
    """The one of the `known` keys that a key is another spelling of."""
    short = compact(key)
    names = {compact(name): name for name in known}
    if short == "description" and "high_level_description" in known:
        return "high_level_description"
    meant = names.get(short) or _SPELLINGS.get(short)
    return meant if meant in known else None


def is_caption(value: Mapping[str, Any]) -> bool:
    """Whether an object has a key that only captions have, however it is spelled."""
    return any(standard(key, (*TOP, "elements")) and compact(key) != "description" for key in value)


def is_element(value: object) -> bool:
    """Whether this is an object with a key of an element, or what other programs keep beside a box."""
    known = (*ELEMENT, "metadata")
    return isinstance(value, dict) and any(standard(key, known) not in (None, "color_palette") for key in value)


def renamed(value: Mapping[str, Any], known: tuple[str, ...], place: str, done: list[Finding]) -> dict[str, Any]:
    """The object with its keys spelled as in training; a key whose standard spelling is there too stays."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in known else standard(key, known)
        if name is None or name == key or name in value or name in found:
            found[key] = item
        else:
            found[name] = item
            done.append(Finding(place, "converted", f"the key {quoted(key)} is {name}"))
    return found


def without_extras(value: Mapping[str, Any], known: tuple[str, ...], place: str, done: list[Finding]) -> dict[str, Any]:
    """The object without unknown keys that hold nothing or a plain setting, and without optional ones that are null."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        is_setting = compact(key) in _SETTINGS and not isinstance(item, dict | list)
        is_extra = key not in known and (is_setting or item in (None, "", [], {}))
        if not is_extra and (item is not None or key not in OPTIONAL):
            found[key] = item
            continue
        what = f"left out {join('', key)}" + ("" if item in (None, "", [], {}) else f", which was {quoted(item)}")
        done.append(Finding(join(place, key), "left out", what, strings_in(item)))
    return found


def ordered(value: Mapping[str, Any], order: tuple[str, ...], place: str, done: list[Finding]) -> dict[str, Any]:
    """The keys in `order`, then unknown ones; required ones that are missing or null are empty."""
    missing = [key for key in order if value.get(key) is None and key not in OPTIONAL]
    empty: dict[str, Any] = {"elements": [], "compositional_deconstruction": {}}
    if missing:
        done.append(Finding(place, "added", f"added {', '.join(missing)}"))
    if [key for key in value if key in order] != [key for key in order if key in value]:
        done.append(Finding(place, "moved", "keys are in the order of training"))
    known = {key: empty.get(key, "") if key in missing else value[key] for key in order if key in value or key in missing}
    return known | {key: item for key, item in value.items() if key not in order}


def join(place: str, key: object) -> str:
    """The place of a key in the object at `place`, in one line whatever the key is."""
    shown = printable(str(key))[:60]
    return f"{place}.{shown}" if place else shown
