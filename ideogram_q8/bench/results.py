"""What the actions find, as frozen records: their last line of output, the file of `--out`, and what `bench project` reads.

A row without a timing says in its note why there is none; nothing that was asked for is left out.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ideogram_q8.bench.machine import Clocks, Machine, Peaks
from ideogram_q8.bench.timing import Timing
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats import file_kinds, whole_file
from ideogram_q8.formats.strict_json import check_version, decode, parse_json

FORMAT_VERSION = 1
_MOST_CHARACTERS = 1 << 24

UNQUANTIZED = "unquantized"
"""The variant that others' speed and error are relative to."""
Arithmetic = Literal["float", "int8", "int8 scores"]
"""What products are computed in: the dtype of the activations, int8 with int32 sums, or half in each, as attention with int8 scores."""


@dataclass(frozen=True)
class BenchProgress:
    """Progress through measurements: how many there are, how many are done, and in `label` what is measured now."""

    done: int
    total: int
    label: str


OnProgress = Callable[[BenchProgress], None]


# ---- bench linear ----


@dataclass(frozen=True)
class LinearSettings:
    """`rows` of activations where a Linear sees tokens; every path was timed `rounds` times, all of them in turn."""

    dtype: str
    rows: tuple[int, ...]
    kinds: tuple[str, ...]
    rounds: int
    seed: int


@dataclass(frozen=True)
class LinearRow:
    """One way to compute one product. `error` is relative to the exact product with the weight before it was quantized (L2)."""

    kind: str
    outputs: int
    inputs: int
    rows: int
    path: str
    arithmetic: Arithmetic
    operations: int
    timing: Timing | None
    error: float | None
    note: str


@dataclass(frozen=True)
class LinearResult:
    """`clocks` were read at work on each shape. With `interrupted`, rows that are missing were not measured."""

    format_version: int
    action: Literal["linear"]
    started: str
    machine: Machine
    peaks: Peaks
    clocks: tuple[Clocks, ...]
    settings: LinearSettings
    rows: tuple[LinearRow, ...]
    interrupted: bool


# ---- bench denoise ----


@dataclass(frozen=True)
class DenoiseSettings:
    """One caption of `text_tokens` tokens, a picture of width x height; both branches are a step.

    `padded_tokens` is what diffusers' pipeline pads captions to. Every variant is built anew in each of `rounds` rounds, all in turn, runs
    a step that does not count, then `steps` that do; one that took more than `patience` seconds in all is left out of later rounds.
    `memory_cap` bytes were all that torch might allocate on the card; None: all that it has.
    """

    layers: int
    width: int
    height: int
    text_tokens: int
    padded_tokens: int
    dtype: str
    rounds: int
    steps: int
    patience: float
    memory_cap: int | None
    seed: int
    variants: tuple[str, ...]


@dataclass(frozen=True)
class StepPart:
    """One kind of work of a step, all of it: what was measured of one block, times the blocks."""

    kind: str
    arithmetic: Arithmetic
    operations: int
    seconds: float


@dataclass(frozen=True)
class DenoiseRow:
    """A variant. `peak_bytes` beside what was there before it was built, as `DenoiseResult.meter` says; `predicted_bytes` by `budget`.

    `error` of a step's velocity, relative to the unquantized variant's (L2). `rounds` are the samples of each round.
    """

    variant: str
    label: str
    peer: bool
    arithmetic: Arithmetic
    timing: Timing | None
    parts: tuple[StepPart, ...]
    peak_bytes: int | None
    predicted_bytes: int | None
    streamed: tuple[str, ...]
    error: float | None
    note: str


@dataclass(frozen=True)
class DenoiseResult:
    """`operations` of a step by kind (`operations.of_a_step`); `clocks` were read at the last step of each turn.

    `meter` is what `peak_bytes` were measured by.
    """

    format_version: int
    action: Literal["denoise"]
    started: str
    machine: Machine
    peaks: Peaks
    clocks: tuple[Clocks, ...]
    settings: DenoiseSettings
    operations: dict[str, int]
    meter: str
    rows: tuple[DenoiseRow, ...]
    interrupted: bool


# ---- bench load ----


@dataclass(frozen=True)
class LoadSettings:
    """`layers` of a random checkpoint where no places were named, else 0."""

    dtype: str
    rounds: int
    layers: int
    seed: int


@dataclass(frozen=True)
class LoadRow:
    """From opening the files of both branches to transformers on the device, each time in a process of its own.

    `cold` after the system was asked to drop the files from its cache, `warm` after it read them. `peak_bytes` is the most host memory
    beside what the process held before, counting pages of files that it maps. `switch` is the time from another variant to this one in
    one process, that one freed first.
    """

    variant: str
    place: str
    file_bytes: int
    device_bytes: int
    cold: Timing | None
    warm: Timing | None
    peak_bytes: int | None
    switch: Timing | None
    note: str


@dataclass(frozen=True)
class LoadResult:
    """`held_bytes` in host memory after each round of switching through all variants."""

    format_version: int
    action: Literal["load"]
    started: str
    machine: Machine
    settings: LoadSettings
    rows: tuple[LoadRow, ...]
    held_bytes: tuple[int, ...]
    interrupted: bool


Result = LinearResult | DenoiseResult | LoadResult
_KINDS: dict[str, type[LinearResult] | type[DenoiseResult] | type[LoadResult]] = {
    "linear": LinearResult,
    "denoise": DenoiseResult,
    "load": LoadResult,
}


def now() -> str:
    """The time in UTC, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def to_json(result: object) -> str:
    """One line, of a result or of any other frozen record."""
    return json.dumps(asdict(result), ensure_ascii=False, allow_nan=False)  # type: ignore[call-overload]


def from_json(text: str, where: str = "result") -> Result:
    """The inverse of `to_json`. Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
    value = parse_json(text, where, ArtifactError)
    check_version(value, FORMAT_VERSION, where, ArtifactError, "measure again")
    action = value.get("action") if isinstance(value, dict) else None
    if not isinstance(action, str) or action not in _KINDS:
        raise ArtifactError(f"{where}: action is {str(action)[:60]!r}, expected one of {', '.join(_KINDS)}")
    return decode(_KINDS[action], value, where, ArtifactError)


def write(path: Path, text: str) -> None:
    """Writes one line of text, whole or not at all."""
    whole_file.write_text(path, text + "\n")


def read(path: Path) -> Result:
    """Raises RequestError: no readable file; ArtifactError: not a result."""
    try:
        with io.TextIOWrapper(file_kinds.open_regular(path), encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {error}; expected what `bench ... --out` wrote") from None
    if len(text) > _MOST_CHARACTERS:
        raise RequestError(f"{path} is longer than a result can be; expected what `bench ... --out` wrote")
    return from_json(text, str(path))
