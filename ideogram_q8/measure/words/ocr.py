"""Reading text out of pictures: PP-OCR of the `rapidocr` package (3.10), which ships its models, and how well it was written.

A picture is read once. Each text that its caption asks for is looked for among the lines found: one line, the lines within its box, or
all of them; the nearest by edit distance counts. Texts with letters that the OCR's alphabet lacks (it has Latin, Greek, Chinese and
Japanese ones) are left out: it would be the reader that fails.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ideogram_q8.captions.suite import Case, Text
from ideogram_q8.errors import RequestError

PACKAGE = "rapidocr"
METRIC_NAMES = ("ocr_exact_match", "ocr_match_any_case", "ocr_ned")
_SLACK = 60
"""Thousandths by which a line's middle may lie outside the box that the caption names."""


@dataclass(frozen=True)
class ReadLine:
    """A line of text that was found, and its middle (y, x) in thousandths of the picture."""

    text: str
    middle: tuple[float, float]


@dataclass(frozen=True)
class Score:
    """How a caption's texts came out, each figure the mean over them: shares of exact matches, and normalised edit distance."""

    exact: float
    any_case: float
    distance: float


class Reader:
    """Finds lines of text; works offline. Detection at 320 pixels at least, no angle classifier (it turns a lone letter around).

    Raises (when made):
        RequestError: `rapidocr` is not installed.
    """

    def __init__(self, threads: int = -1) -> None:
        try:
            from rapidocr import RapidOCR  # for measuring only, not a dependency of the app
        except ModuleNotFoundError as error:
            raise RequestError(f"{error.name} is not installed: pip install rapidocr==3.10.0 onnxruntime") from None
        options = {"Global.log_level": "error", "Det.limit_side_len": 320}
        self._engine = RapidOCR(params=options | {"EngineConfig.onnxruntime.intra_op_num_threads": threads})
        self._find(np.zeros((32, 32, 3), np.uint8), use_det=False)  # the recogniser is loaded when first used
        self.alphabet = frozenset("".join(self._engine.text_rec.postprocess_op.character))

    def __call__(self, picture: Image.Image) -> tuple[ReadLine, ...]:
        """The lines of an RGB picture, from top to bottom as the OCR orders them."""
        found = self._find(np.asarray(picture)[:, :, ::-1], use_det=True)
        if found.txts is None:
            return ()
        middles = np.asarray(found.boxes).mean(axis=1) / picture.size * 1000
        return tuple(ReadLine(text, (float(y), float(x))) for text, (x, y) in zip(found.txts, middles, strict=True))

    def _find(self, pixels: np.ndarray, use_det: bool):  # type: ignore[no-untyped-def]  # rapidocr's own, untyped
        return self._engine(pixels, use_det=use_det, use_cls=False, use_rec=True)

    def can_read(self, text: str) -> bool:
        """Whether the OCR knows every letter."""
        return set(normal(text)) - {" "} <= self.alphabet


def joined(lines: Iterable[ReadLine]) -> str:
    """All that was found, with a space between lines."""
    return " ".join(line.text for line in lines)


def normal(text: str) -> str:
    """Compatibility forms made plain (NFKC), runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def score(lines: Sequence[ReadLine], texts: Sequence[Text]) -> Score | None:
    """How well `texts` were written, None where there are none."""
    if not texts:
        return None
    exact, any_case, distance = 0, 0, 0.0
    for wanted in texts:
        target = normal(wanted.text)
        readings = [normal(reading) for reading in _readings(lines, wanted)]
        exact += target in readings
        any_case += target.casefold() in (reading.casefold() for reading in readings)
        distance += min(edit_distance(reading, target) for reading in readings)
    return Score(exact / len(texts), any_case / len(texts), distance / len(texts))


def judge(_device: str) -> Callable[[Image.Image, Case], Mapping[str, float | None]]:
    """The three metrics of one reading, as `formats.metrics` names them: None where no text is asked for that can be read.

    Raises:
        RequestError: `rapidocr` is not installed.
    """
    reader = Reader(torch.get_num_threads())

    def values(picture: Image.Image, case: Case) -> Mapping[str, float | None]:
        texts = [text for text in case.texts if reader.can_read(text.text)]
        found = score(reader(picture), texts) if texts else None
        if found is None:
            return dict.fromkeys(METRIC_NAMES)
        return dict(zip(METRIC_NAMES, (found.exact, found.any_case, found.distance), strict=True))

    return values


def nearest(lines: Sequence[ReadLine], wanted: Text) -> str:
    """What was read that is most like `wanted`; empty where nothing was."""
    return min(map(normal, _readings(lines, wanted)), key=lambda reading: edit_distance(reading, normal(wanted.text)))


def _readings(lines: Sequence[ReadLine], wanted: Text) -> Iterator[str]:
    """What may have been meant as `wanted`; at least the empty text."""
    yield joined(lines)
    yield from (line.text for line in lines)
    if wanted.bbox is not None:
        yield joined(line for line in lines if _within(line.middle, wanted.bbox))


def _within(middle: tuple[float, float], bbox: tuple[int, int, int, int]) -> bool:
    top, left, bottom, right = bbox
    return top - _SLACK <= middle[0] <= bottom + _SLACK and left - _SLACK <= middle[1] <= right + _SLACK


def edit_distance(a: str, b: str) -> float:
    """Levenshtein's distance over the length of the longer text: 0 for equal texts, 1 for nothing in common."""
    if a == b:
        return 0.0
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (letter != other))
    return row[-1] / max(len(a), len(b))


def band(picture: Image.Image, top: int, bottom: int) -> Image.Image:
    """The full-width band between two heights in thousandths, framed in its commonest edge colour and enlarged three times."""
    rows = picture.crop((0, round(top * picture.height / 1000), picture.width, round(bottom * picture.height / 1000)))
    pixels = np.asarray(rows)
    edge = np.median(np.concatenate([pixels[0], pixels[-1]]), axis=0)
    framed = Image.new("RGB", (rows.width + 32, rows.height + 32), tuple(int(v) for v in edge))
    framed.paste(rows, (16, 16))
    return framed.resize((framed.width * 3, framed.height * 3), Image.Resampling.BICUBIC)
