"""Colours as people and other programs write them, to #RRGGBB."""

from __future__ import annotations

import re
from typing import Any

from ideogram_q8.captions.findings import Finding, quoted, strings_in
from ideogram_q8.captions.keys import compact

_MAX_TEXT = 80
_MAX_PALETTE = 512
"""Characters of a palette that is one string."""
_HEX = re.compile(r"#?([0-9A-F]{6}|[0-9A-F]{8})|#([0-9A-F]{3,4})", re.IGNORECASE)
_HEX_IN_WORDS = re.compile(r"#[0-9A-F]{6}(?![0-9A-Za-z])", re.IGNORECASE)
_RGB = re.compile(r"rgba?\((\d{1,3})[ ,]{1,3}(\d{1,3})[ ,]{1,3}(\d{1,3})(?:[ ,/]{1,4}(\d{0,3}(?:\.\d{1,6})?%?))?\)")
_HOLDERS = frozenset({"hex", "color", "colour", "value", "colorhex", "colourhex", "hexcode", "code"})


def read_palette(palette: object, most: int, place: str, done: list[Finding]) -> object:
    """The palette with its colours as #RRGGBB, in a list; what is no colour stays as it is, and so does what is no palette.

    Only where each is a colour, those beyond `most` are left out.
    """
    listed = _listed(palette)
    if listed is None:
        return palette
    if listed is not palette:
        done.append(Finding(place, "converted", f"the palette is a list, was {quoted(palette)}", strings_in(palette)))
    found: list[Any] = []
    for index, item in enumerate(listed):
        colour = read_colour(item)
        if colour is not None and colour != item:
            said = f"the colour is {colour}, was {quoted(item)}"
            done.append(Finding(f"{place}[{index}]", "converted", said, strings_in(item)))
        found.append(item if colour is None else colour)
    if len(found) <= most or any(read_colour(item) is None for item in found):
        return found
    rest = ", ".join(found[most:])
    said = f"has {len(found)} colours, expected at most {most}: left out {rest if len(rest) < 400 else 'the others'}"
    done.append(
        Finding(place, "left out", said, (*found[most:], *(text for item in listed[most:] for text in strings_in(item))))
    )
    return found[:most]


def read_colour(value: object) -> str | None:
    """`#RRGGBB` of #RGB, #RGBA, #RRGGBBAA, rgb(), a CSS name, [r, g, b], or an object or sentence with one #RRGGBB; else None.

    A palette knows no transparency, so that of a colour goes.
    """
    if isinstance(value, dict):
        holders = [item for key, item in value.items() if compact(key) in _HOLDERS]
        return read_colour(holders[0]) if len(holders) == 1 and isinstance(holders[0], str) else None
    if isinstance(value, list):
        whole = len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)
        return "#{:02X}{:02X}{:02X}".format(*value) if whole and max(value) > 1 else None
    return _read_text(value.strip()) if isinstance(value, str) and len(value) <= _MAX_TEXT else None


def _read_text(text: str) -> str | None:
    match = _HEX.fullmatch(text)
    if match is not None:
        digits = match[1] or "".join(2 * digit for digit in match[2])
        return f"#{digits[:6].upper()}"
    match = _RGB.fullmatch(text.lower())
    if match is not None:
        parts = [int(match[i]) for i in (1, 2, 3)]
        return "#{:02X}{:02X}{:02X}".format(*parts) if max(parts) <= 255 else None
    inside = _HEX_IN_WORDS.findall(text)
    if inside:
        return str(inside[0]).upper() if len(inside) == 1 else None
    return _named(text)


def _named(text: str) -> str | None:
    """A CSS colour name, for which Pillow has the table; `Dark Blue` is darkblue."""
    from PIL import ImageColor

    name = re.sub(r"[\s_-]+", "", text).lower()
    return "#{:02X}{:02X}{:02X}".format(*ImageColor.getrgb(name)[:3]) if name in ImageColor.colormap else None


def _listed(palette: object) -> list[Any] | None:
    if isinstance(palette, list):
        return palette
    if isinstance(palette, dict):  # Ideogram's API: {"members": [{"color_hex": ...}]}
        members = palette.get("members")
        return members if list(palette) == ["members"] and isinstance(members, list) else None
    if not isinstance(palette, str) or not 0 < len(palette.strip()) <= _MAX_PALETTE:
        return None
    parts = [part.strip(" '\"\t") for part in re.split(r"[,;|\n]", palette.strip().strip("[]"))]
    if len(parts) > 1 and all(map(read_colour, parts)):
        return parts
    return None if read_colour(palette) is None else [palette]
