"""Two to four variants on the same captions and seeds, and what is known of each: pure data between the studio and the tab."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.metrics import METRICS, in_table
from ideogram_q8.ui.engine.events import Picture
from ideogram_q8.ui.engine.judge import Scores, Words, score, words_in
from ideogram_q8.ui.engine.seeds import consecutive
from ideogram_q8.ui.engine.sheet import Panel, sheet

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

MOST_VARIANTS, MOST_SEEDS = 4, 4


@dataclass(frozen=True)
class Cell:
    """A picture, its likeness to the reference's (None for the reference itself) and the words in it."""

    picture: Picture
    scores: Scores | None
    words: tuple[Words, ...] | None


@dataclass(frozen=True)
class Column:
    """A variant: its title, bytes of its weights and a cell for each seed."""

    variant: str
    title: str
    size_bytes: int
    cells: tuple[Cell, ...]

    @property
    def words(self) -> tuple[int, int] | None:
        """Text elements read exactly, and all of them; None where they were not read."""
        read = [cell.words for cell in self.cells]
        if any(words is None for words in read):
            return None
        flat = [word for words in read for word in words or ()]
        return sum(word.exact for word in flat), len(flat)

    def mean(self, metric: str) -> float | None:
        """Mean of a score over the seeds; None for the reference, or where it was not measured."""
        found = [None if cell.scores is None else cell.scores.get(metric) for cell in self.cells]
        known = [value for value in found if value is not None]
        return statistics.fmean(known) if known and len(known) == len(found) else None


def check_choice(variants: Sequence[str]) -> None:
    """Raises RequestError: not two to four different variants."""
    if not 2 <= len(set(variants)) == len(variants) <= MOST_VARIANTS:
        raise RequestError(f"{len(set(variants))} variants are chosen; choose two to {MOST_VARIANTS} to compare")


def requests(first: Request, seeds: int) -> list[Request]:
    """The request with its seed and the ones after it. Raises RequestError."""
    if not 1 <= seeds <= MOST_SEEDS:
        raise RequestError(f"got {seeds} seeds; expected 1 to {MOST_SEEDS}")
    return consecutive(first, seeds)


def judged(pictures: Sequence[Sequence[Picture]], titles: Sequence[str], sizes: Sequence[int]) -> list[Column]:
    """Columns from pictures by variant and seed; the first variant is the reference."""
    reference = [_open(picture) for picture in pictures[0]]
    columns = []
    for row, title, size in zip(pictures, titles, sizes, strict=True):
        cells = []
        for picture, beside in zip(row, reference, strict=True):
            image = _open(picture)
            scores = None if row is pictures[0] else score(image, beside)
            cells.append(Cell(picture, scores, words_in(image, picture.request.caption)))
        columns.append(Column(row[0].variant, title, size, tuple(cells)))
    return columns


def numbers(columns: Sequence[Column]) -> dict[str, Any]:
    """Everything measured, as JSON values; a PSNR that is infinite is None and `identical` says so."""
    measured = {column.variant: _column_numbers(column) for column in columns}
    return {"request": _request(columns), "reference": columns[0].variant, "variants": measured}


def _request(columns: Sequence[Column]) -> dict[str, Any]:
    """What makes the pictures again, with the variants' names."""
    request = columns[0].cells[0].picture.request
    return {
        "caption": request.caption,
        "preset": request.preset,
        "width": request.width,
        "height": request.height,
        "seeds": [cell.picture.request.seed for cell in columns[0].cells],
    }


def _column_numbers(column: Column) -> dict[str, Any]:
    return {"weights_bytes": column.size_bytes, "pictures": [_cell_numbers(cell) for cell in column.cells]}


def _cell_numbers(cell: Cell) -> dict[str, Any]:
    picture, scores = cell.picture, cell.scores
    values: dict[str, Any] = {
        "seed": picture.request.seed,
        "artifact_sha256": picture.metadata["artifact_sha256"],
        "seconds_per_step": picture.seconds_per_step,
        "total_seconds": picture.total_seconds,
        "peak_bytes": picture.peak_bytes,
        "reused": picture.reused,
        "words": None if cell.words is None else [dataclasses.asdict(word) | {"exact": word.exact} for word in cell.words],
    }
    return values if scores is None else values | _score_numbers(scores)


def _score_numbers(scores: Scores) -> dict[str, float | bool | None]:
    """Numbers by metric, with the unit in the name where it is decibels."""
    numbers: dict[str, float | bool | None] = {}
    for name, value in scores.items():
        infinite = value is not None and math.isinf(value)
        numbers[f"{name}_db" if METRICS[name].unit == "dB" else name] = None if infinite else value
        if name == "psnr":
            numbers["identical"] = infinite
    return numbers


def recipe(columns: Sequence[Column]) -> str:
    """JSON that says how to make this comparison again, with its numbers."""
    measured = numbers(columns)
    versions = {"ideogram_q8": TOOL_VERSION, "torch": importlib.metadata.version("torch")}
    value = measured.pop("request") | {"measured": measured, "versions": versions}
    return json.dumps(value, ensure_ascii=False, indent=2)


def as_sheet(columns: Sequence[Column]) -> Image.Image:
    """All pictures as one, a row for each seed."""
    request = columns[0].cells[0].picture.request
    seeds = [cell.picture.request.seed for cell in columns[0].cells]
    rows = [[Panel(_open(c.cells[i].picture), c.title, facts(c.cells[i])) for c in columns] for i in range(len(seeds))]
    foot = f"{request.preset}, {request.width} x {request.height}, seeds {', '.join(map(str, seeds))}"
    return sheet(rows, request.caption, f"{foot}; made with Ideogram Q8 {TOOL_VERSION}")


def facts(cell: Cell) -> list[str]:
    """Short lines for below a picture."""
    lines = [f"seed {cell.picture.request.seed}, {cell.picture.seconds_per_step:.3g} s per step"]
    if cell.scores is not None:
        found = [(column, cell.scores.get(metric.name)) for metric, column in in_table("picture")]
        lines.append(", ".join(f"{column.head} {column.text(value)}" for column, value in found if value is not None))
    if cell.words:
        lines.append(f"{sum(word.exact for word in cell.words)} of {len(cell.words)} texts read exactly")
    return lines


def _open(picture: Picture) -> Image.Image:
    with Image.open(picture.path) as image:
        return image.convert("RGB")
