"""The JSON caption that Ideogram 4 was trained on: read it, check it, write it in its one canonical form.

The rules are those of ideogram-oss/ideogram4 (commit 415abf4: `docs/prompting.md`, `caption_verifier.py`): which keys, in
which order, which of them may be absent, boxes and palettes. What that verifier reports is an error here, as the official
pipeline refuses it; what it lets pass although it can hardly be meant is a warning. Captions come from strangers (files,
PNG metadata, a browser), so reading is bounded: length, duplicate keys, NaN, deep nesting and broken Unicode are refused.
What this module does not know: tokens (the length limit in tokens belongs to the text encoder) and pictures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from ideogram_q8.errors import CaptionError

MAX_CHARACTERS = 32_768
"""Longest accepted text; the text encoder reads 2,048 tokens of about four characters, so this is no limit in practice."""
BOX_LIMIT = 1000
"""Boxes are integers in thousandths of the picture: [ymin, xmin, ymax, xmax] from 0 to BOX_LIMIT."""
STYLE_PALETTE_MAX = 16
ELEMENT_PALETTE_MAX = 5


@dataclass(frozen=True)
class Issue:
    """One finding: where (`style_description.color_palette[2]`, empty for the whole caption), what, and how bad."""

    path: str
    message: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        return f"{self.path or 'caption'}: {self.message}"


@dataclass(frozen=True)
class _Keys:
    """The keys of one object in the order of training, and those that may be absent."""

    order: tuple[str, ...]
    optional: frozenset[str]


_TOP = _Keys(
    ("high_level_description", "style_description", "compositional_deconstruction"),
    frozenset({"high_level_description", "style_description"}),
)
_PALETTE = frozenset({"color_palette"})
_STYLES = {
    "photo": _Keys(("aesthetics", "lighting", "photo", "medium", "color_palette"), _PALETTE),
    "art_style": _Keys(("aesthetics", "lighting", "medium", "art_style", "color_palette"), _PALETTE),
}
_COMPOSITION = _Keys(("background", "elements"), frozenset())
_ELEMENTS = {
    "obj": _Keys(("type", "bbox", "desc", "color_palette"), _PALETTE | {"bbox"}),
    "text": _Keys(("type", "bbox", "text", "desc", "color_palette"), _PALETTE | {"bbox"}),
}
_LEVELS = 100
_BRACKETS = re.compile(r"[\[\]{}]")
_STRINGS_OF_JSON = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""Strings, of which the last one may lack its end: so each character is looked at once."""
_STRINGS = ("aesthetics", "lighting", "photo", "medium", "art_style", "text", "desc")


def parse(text: str) -> dict[str, object]:
    """The JSON object in `text`, its keys in their order; the caption rules are not checked (see `lint`).

    Raises:
        CaptionError: too long, not JSON, not an object, a key twice, NaN or infinity, or nested beyond reason.
    """
    check_length(text)
    try:
        value, _ = decode(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise not_json(error) from None
    if not isinstance(value, dict):
        raise CaptionError(f"caption is {shown(value)}; expected a JSON object with compositional_deconstruction")
    return value


def decode(text: str, start: int | None = None, *, strict: bool = True) -> tuple[object, int]:
    """The JSON value that all of `text` is, or that begins at `start` whatever follows; and where the value ends.

    Args:
        strict: whether strings with raw line breaks in them are refused, as JSON has it.

    Raises:
        json.JSONDecodeError: this is not JSON.
        CaptionError: JSON that no caption is: a key twice, NaN or infinity, nested beyond reason, an enormous integer.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, strict=strict)
    try:
        if start is None:
            _check_depth(text)
            return decoder.decode(text), len(text)
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise CaptionError("caption is nested too deeply; a caption has five levels") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise CaptionError(f"caption holds a number with too many digits; boxes go from 0 to {BOX_LIMIT}") from None
    _check_depth(text[start:end])
    return value, end


def not_json(error: json.JSONDecodeError) -> CaptionError:
    """The refusal of a caption that starts with a brace and is not JSON."""
    return CaptionError(
        f"caption is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
        "correct it, or write a plain sentence that does not start with a brace"
    )


def _check_depth(text: str) -> None:
    """Refuses text before it is parsed: from Python 3.12 on the parser takes thousands of levels, and what reads its value does not.

    Raises:
        CaptionError: more than _LEVELS brackets are open at once.
    """
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS_OF_JSON.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _LEVELS:
            raise CaptionError("caption is nested too deeply; a caption has five levels")


def lint(caption: object) -> list[Issue]:
    """Everything wrong with a parsed caption, in reading order; without errors in it, the model understands the caption.

    Never raises, whatever the value is.
    """
    return list(_lint_caption(caption))


def canonical(caption: str | Mapping[str, object]) -> str:
    """The text that the text encoder reads: no spaces between tokens, characters as themselves, keys in the order given.

    Raises:
        CaptionError: the text is not a JSON object, or the value cannot be written as JSON. The rules are not checked.
    """
    value = parse(caption) if isinstance(caption, str) else caption
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CaptionError(f"caption cannot be written as JSON: {error}") from None


def wrap_plain_text(text: str) -> dict[str, object]:
    """The smallest valid caption that says `text`: a description, an empty background, no elements.

    Raises:
        CaptionError: too long.
    """
    check_length(text)
    return {"high_level_description": text, "compositional_deconstruction": {"background": "", "elements": []}}


def check_length(text: str) -> None:
    """Raises CaptionError: the text is longer than MAX_CHARACTERS."""
    if len(text) > MAX_CHARACTERS:
        raise CaptionError(f"caption has {len(text)} characters; expected at most {MAX_CHARACTERS}: shorten it")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        if key in value:
            raise CaptionError(f"caption has the key {shown(key)} twice in one object; keep one of them")
        value[key] = item
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise CaptionError(f"caption holds {name}, which is not JSON; boxes are integers from 0 to {BOX_LIMIT}")


def _lint_caption(caption: object) -> Iterator[Issue]:
    if not isinstance(caption, dict):
        yield _wrong("", caption, "a JSON object with compositional_deconstruction")
        return
    yield from _lint_keys(caption, _TOP, "", order_severity="warning")
    if "high_level_description" in caption:
        yield from _lint_string(caption["high_level_description"], "high_level_description")
    if "style_description" in caption:
        yield from _lint_style(caption["style_description"], "style_description")
    if "compositional_deconstruction" in caption:
        yield from _lint_composition(caption["compositional_deconstruction"], "compositional_deconstruction")


def _lint_style(style: object, path: str) -> Iterator[Issue]:
    if not isinstance(style, dict):
        yield _wrong(path, style, "an object")
        return
    kinds = [kind for kind in _STYLES if kind in style]
    if len(kinds) != 1:
        got = "both" if kinds else "neither"
        yield Issue(path, f"got {got} of photo and art_style, expected exactly one of them", "error")
        return
    yield from _lint_keys(style, _STYLES[kinds[0]], path)
    yield from _lint_values(style, path, STYLE_PALETTE_MAX)


def _lint_composition(composition: object, path: str) -> Iterator[Issue]:
    if not isinstance(composition, dict):
        yield _wrong(path, composition, "an object with background and elements")
        return
    yield from _lint_keys(composition, _COMPOSITION, path)
    if "background" in composition:
        yield from _lint_string(composition["background"], f"{path}.background")
    elements = composition.get("elements", [])
    if not isinstance(elements, list):
        yield _wrong(f"{path}.elements", elements, "a list")
        return
    for index, element in enumerate(elements):
        yield from _lint_element(element, f"{path}.elements[{index}]")


def _lint_element(element: object, path: str) -> Iterator[Issue]:
    if not isinstance(element, dict):
        yield _wrong(path, element, "an object with type and desc")
        return
    kind = element.get("type")
    if not isinstance(kind, str) or kind not in _ELEMENTS:
        yield _wrong(f"{path}.type", kind, "'obj' or 'text'")
        return
    yield from _lint_keys(element, _ELEMENTS[kind], path)
    if "bbox" in element:
        yield from _lint_box(element["bbox"], f"{path}.bbox")
    yield from _lint_values(element, path, ELEMENT_PALETTE_MAX)
    if kind == "text" and element.get("text") == "":
        yield Issue(f"{path}.text", "is empty, so nothing will be written", "warning")


def _lint_keys(
    value: Mapping[object, object], keys: _Keys, path: str, order_severity: Literal["error", "warning"] = "error"
) -> Iterator[Issue]:
    for key in value:
        if key not in keys.order:
            yield Issue(path, f"got the unknown key {shown(key)}, expected only {', '.join(keys.order)}", "error")
    for key in keys.order:
        if key not in value and key not in keys.optional:
            yield Issue(path, f"the key {key} is missing", "error")
    present = [key for key in value if key in keys.order]
    expected = [key for key in keys.order if key in value]
    if present != expected:
        got, want = ", ".join(map(str, present)), ", ".join(expected)
        yield Issue(path, f"got the keys in the order {got}; expected {want}", order_severity)


def _lint_values(value: Mapping[object, object], path: str, palette_max: int) -> Iterator[Issue]:
    for key in _STRINGS:
        if key in value:
            yield from _lint_string(value[key], f"{path}.{key}")
    if "color_palette" in value:
        yield from _lint_palette(value["color_palette"], f"{path}.color_palette", palette_max)


def _lint_string(value: object, path: str) -> Iterator[Issue]:
    if not isinstance(value, str):
        yield _wrong(path, value, "a string")
    elif any("\ud800" <= character <= "\udfff" for character in value):
        yield Issue(path, "holds half of a UTF-16 surrogate pair, expected valid Unicode", "error")


def _lint_palette(palette: object, path: str, most: int) -> Iterator[Issue]:
    if not isinstance(palette, list):
        yield _wrong(path, palette, "a list of colours")
        return
    if len(palette) > most:
        yield Issue(path, f"got {len(palette)} colours, expected at most {most}", "error")
        return
    for index, colour in enumerate(palette):
        digits = colour[1:] if isinstance(colour, str) and colour.startswith("#") else ""
        if len(digits) != 6 or not set(digits) <= set("0123456789ABCDEF"):
            yield _wrong(f"{path}[{index}]", colour, "#RRGGBB in capitals, for example #1A2B3C")


def _lint_box(box: object, path: str) -> Iterator[Issue]:
    if isinstance(box, dict):
        expected = (
            "four integers [ymin, xmin, ymax, xmax]; in pixels, mend it with --size WxH, in thousandths with --size 1000x1000"
        )
        yield _wrong(path, box, expected)
        return
    # bool is a subclass of int, and `true` is no coordinate
    if not isinstance(box, list) or len(box) != 4 or not all(type(side) is int for side in box):
        yield _wrong(path, box, "four integers [ymin, xmin, ymax, xmax]")
        return
    if not all(0 <= side <= BOX_LIMIT for side in box):
        yield _wrong(
            path, box, f"integers from 0 to {BOX_LIMIT} (thousandths of the picture; pixels are mended with --size WxH)"
        )
        return
    ymin, xmin, ymax, xmax = box
    if ymin > ymax or xmin > xmax:
        yield _wrong(path, box, "[ymin, xmin, ymax, xmax] with ymin <= ymax and xmin <= xmax")
    elif ymin == ymax or xmin == xmax:
        yield Issue(path, f"{box} has no area", "warning")


def _wrong(path: str, got: object, expected: str) -> Issue:
    return Issue(path, f"got {shown(got)}, expected {expected}", "error")


def shown(value: object) -> str:
    """A short one-line picture of any value, safe for hostile ones (huge, nested, self-containing)."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        simple = len(value) <= 4 and not any(isinstance(item, dict | list) for item in value)
        return f"[{', '.join(map(shown, value))}]" if simple else f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 64:
        return "an enormous integer"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
