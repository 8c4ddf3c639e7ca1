"""From compact rows to captions: deterministic, so that the text files and this module are all that a suite consists of.

A caption is a paragraph of lines:

    @ name | style | lighting | palette
    The picture in a sentence or two.
    ~ the background
    T 100,50,260,950 "WORDS TO READ" how they look #RRGGBB
    O 300,100,950,900 an object and how it looks

Style and palette are names of `styles`; a palette may also be colours, or left out with its bar. T is a text element and O any
other, in reading order. Four numbers are its box, (ymin, xmin, ymax, xmax) in thousandths; `-` leaves it free. Colours at the
end are the element's. A line that starts with # is a remark.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from ideogram_q8.captions import canonical
from ideogram_q8.captions.suites.styles import PALETTES, STYLES
from ideogram_q8.errors import CaptionError

CATEGORIES = (
    "short-words",
    "long-sentences",
    "text-blocks",
    "small-text",
    "numbers",
    "cyrillic-greek",
    "arabic-hebrew-devanagari-thai",
    "cjk",
    "people",
    "hands",
    "animals",
    "products",
    "architecture",
    "landscapes",
    "graphic-design",
    "charts",
    "hex-palettes",
    "box-layouts",
    "photographic-styles",
    "drawn-styles",
)
"""What can break under quantization; one file each."""
Collection = Literal["evaluation", "calibration"]
Box = tuple[int, int, int, int]
"""(ymin, xmin, ymax, xmax) in thousandths of the picture."""
_COLOUR = r"#[0-9A-F]{6}"
_ELEMENT = re.compile(rf'([TO]) (-|\d+,\d+,\d+,\d+) (?:"([^"]+)" )?(.+?)((?: {_COLOUR})*)')
_COLOURS = re.compile(rf"{_COLOUR}( {_COLOUR})*")


@dataclass(frozen=True)
class SuiteElement:
    """Something placed in the picture; `text` is None for what is not writing."""

    text: str | None
    bbox: Box | None
    desc: str
    palette: tuple[str, ...]

    def value(self) -> dict[str, object]:
        """The element as Ideogram's JSON has it, keys in its order."""
        found: dict[str, object] = {"type": "obj" if self.text is None else "text"}
        if self.bbox is not None:
            found["bbox"] = list(self.bbox)
        if self.text is not None:
            found["text"] = self.text
        found["desc"] = self.desc
        if self.palette:
            found["color_palette"] = list(self.palette)
        return found


@dataclass(frozen=True)
class CaptionRow:
    """One caption before it is written as JSON. `name` is unique in its category."""

    category: str
    name: str
    style: str
    lighting: str
    palette: tuple[str, ...]
    description: str
    background: str
    elements: tuple[SuiteElement, ...]

    def caption(self) -> str:
        """The canonical JSON caption."""
        style = STYLES[self.style].value(self.lighting)
        if self.palette:
            style["color_palette"] = list(self.palette)
        composition = {"background": self.background, "elements": [element.value() for element in self.elements]}
        return canonical(
            {
                "high_level_description": self.description,
                "style_description": style,
                "compositional_deconstruction": composition,
            }
        )


@functools.lru_cache(maxsize=2)
def rows(collection: Collection) -> tuple[CaptionRow, ...]:
    """All rows of a collection, category by category, in the order of their files.

    Raises:
        CaptionError: a row is not of the form above; names its file and line.
    """
    folder = resources.files(__package__) / collection
    found: list[CaptionRow] = []
    for category in CATEGORIES:
        found.extend(parse(category, (folder / f"{category}.txt").read_text(encoding="utf-8")))
    return tuple(found)


def parse(category: str, text: str) -> list[CaptionRow]:
    """The rows of one file's text.

    Raises:
        CaptionError: as in `rows`.
    """
    found = []
    paragraph: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if line:
            paragraph.append(line)
        elif paragraph:
            try:
                found.append(_row(category, paragraph))
            except CaptionError as error:
                raise CaptionError(f"{category}.txt: the caption that ends in line {number - 1}: {error}") from None
            paragraph = []
    return found


def _row(category: str, lines: list[str]) -> CaptionRow:
    if len(lines) < 3 or not lines[0].startswith("@ ") or not lines[2].startswith("~ "):
        raise CaptionError("expected '@ name | style | lighting', a description and '~ background', then elements")
    name, style, lighting, *palette = (part.strip() for part in lines[0][2:].split("|"))
    if style not in STYLES or len(palette) > 1:
        raise CaptionError(f"got {lines[0]!r}, expected '@ name | style | lighting | palette' with a style of styles.py")
    elements = tuple(_element(line) for line in lines[3:])
    return CaptionRow(category, name, style, lighting, _palette(*palette), lines[1], lines[2][2:], elements)


def _palette(text: str = "") -> tuple[str, ...]:
    if not text:
        return ()
    if text in PALETTES:
        return PALETTES[text]
    if not _COLOURS.fullmatch(text):
        raise CaptionError(f"got the palette {text!r}, expected a name of styles.py or colours such as #1A2B3C")
    return tuple(text.split())


def _element(line: str) -> SuiteElement:
    match = _ELEMENT.fullmatch(line)
    if match is None or (match[1] == "T") != (match[3] is not None):
        raise CaptionError(f"got {line!r}, expected 'T box \"text\" description' or 'O box description'")
    _, box, text, desc, colours = match.groups()
    return SuiteElement(text, _box(box), desc, tuple(colours.split()))


def _box(text: str) -> Box | None:
    if text == "-":
        return None
    ymin, xmin, ymax, xmax = (int(side) for side in text.split(","))
    return ymin, xmin, ymax, xmax
