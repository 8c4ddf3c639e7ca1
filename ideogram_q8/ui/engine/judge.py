"""What the Compare tab says about a picture: how close it is to the reference's, and which of the asked-for words are in it.

LPIPS and OCR need packages and weights that a plain installation may lack; then they are not measured, and why is said. What measures
is imported when it is first needed: it takes seconds, and the page is there before.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from ideogram_q8 import captions as caption
from ideogram_q8.errors import IdeogramQ8Error, MissingToolError
from ideogram_q8.formats.metrics import METRICS, in_table

if TYPE_CHECKING:
    from ideogram_q8.captions.suite import Text
    from ideogram_q8.measure.functions import Function
    from ideogram_q8.measure.words.ocr import Reader

Scores = Mapping[str, float | None]
"""Likeness of one picture to the reference's by metric: PSNR in dB is infinite for equal ones, None is what cannot be had."""


@dataclass(frozen=True)
class Words:
    """A text element: what it asks for, and what was read in its place."""

    wanted: str
    read: str

    @property
    def exact(self) -> bool:
        """Whether every character is as asked for, up to white space and compatibility forms."""
        from ideogram_q8.measure.words import ocr

        return ocr.normal(self.wanted) == ocr.normal(self.read)


def score(picture: Image.Image, reference: Image.Image) -> Scores:
    """The metrics of two pictures that stand in the Compare tab. Raises RequestError: the sizes differ, or are too small for SSIM."""
    found: dict[str, float | None] = {}
    for metric, _ in in_table("compare"):
        tool = _tool(metric.name)
        value = None if isinstance(tool, str) else tool(reference, picture)
        assert not isinstance(value, Mapping), f"{metric.name} shares its function; the Compare tab shows metrics of their own"
        found[metric.name] = value
    return found


def words_in(picture: Image.Image, canonical: str) -> tuple[Words, ...] | None:
    """The text elements of a caption and what is most like them in the picture; None where no OCR is installed."""
    wanted = texts_of(canonical)
    if not wanted:
        return ()
    reader = _reader()
    if reader is None:
        return None
    from ideogram_q8.measure.words import ocr

    lines = reader(picture)
    return tuple(Words(text.text, ocr.nearest(lines, text)) for text in wanted if reader.can_read(text.text))


def texts_of(canonical: str) -> list[Text]:
    """The text elements that have any text, in the caption's order; none for a caption of another form."""
    from ideogram_q8.captions.suite import Text

    try:
        value = caption.parse(canonical)
    except IdeogramQ8Error:
        return []
    if any(issue.severity == "error" for issue in caption.lint(value)):
        return []
    composition = value["compositional_deconstruction"]
    assert isinstance(composition, dict)  # the linter saw to it
    elements = [element for element in composition["elements"] if element["type"] == "text" and element["text"].strip()]
    return [Text(element["text"], tuple(element["bbox"]) if "bbox" in element else None) for element in elements]


def missing() -> dict[str, str]:
    """What is not measured here, and what would change that."""
    tools = {column.head: _tool(metric.name) for metric, column in in_table("compare")}
    found = {head: tool for head, tool in tools.items() if isinstance(tool, str)}
    if importlib.util.find_spec("rapidocr") is None:
        found["words"] = "pip install rapidocr onnxruntime"
    return found


@functools.cache
def _tool(name: str) -> Function | str:
    """What measures a metric, made once; the remedy where something is not installed."""
    from ideogram_q8.measure.functions import function_of

    try:
        return function_of(METRICS[name])
    except MissingToolError as error:
        return error.remedy


@functools.lru_cache(maxsize=1)
def _reader() -> Reader | None:
    from ideogram_q8.measure.words import ocr

    return ocr.Reader() if importlib.util.find_spec("rapidocr") else None
