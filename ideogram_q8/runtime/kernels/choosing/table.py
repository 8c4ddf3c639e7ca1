"""What was measured on a device, kept in the user's cache folder: seconds of each back end, by layer shape and number of rows, and
of both branches, one after the other and at once.

One JSON file for each device, driver and release of the libraries that compute: what was measured with others says nothing about
these. A file that is damaged, or says that it is of another device, is ignored, and the log and `note` say so.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
import torch

from ideogram_q8.errors import ResourceError
from ideogram_q8.formats import strict_json, whole_file
from ideogram_q8.machine import platforms as computer

BUCKET = 512
"""Rows that are as good as one another: a shape is measured once for each multiple of this."""
FORMAT_VERSION = 2
_LIBRARIES = ("torch", "triton", "triton-windows", "comfy-kitchen")
_LARGEST_FILE = 4 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedShape:
    """A product of [rows, inputs] and [outputs, inputs]; rows up to a multiple of BUCKET; `step` and `rotation` as in `Prologue`."""

    rows: int
    inputs: int
    outputs: int
    dtype: str
    step: str
    rotation: int


@dataclass(frozen=True)
class TimedEntry:
    """Seconds of one product by back end; those that refused it are not there. `tiles` are the label of Triton's fastest."""

    shape: TimedShape
    seconds: Mapping[str, float]
    tiles: str | None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)

    @property
    def fastest(self) -> str | None:
        """The back end with the least seconds."""
        return min(self.seconds, key=self.seconds.__getitem__, default=None)


@dataclass(frozen=True)
class Pair:
    """The same blocks of both branches, for `rows` image tokens up to a multiple of BUCKET.

    `scheme` is that of most of a block's products, `compute` and `attention` are those of `devices`, `gates` is the width of w1.
    """

    rows: int
    hidden: int
    gates: int
    scheme: str
    compute: str
    attention: str
    dtype: str


@dataclass(frozen=True)
class Overlap:
    """Seconds of a pair: one branch after the other, and both at once on two streams."""

    pair: Pair
    apart: float
    overlapped: float

    def __post_init__(self) -> None:
        _check_seconds({"apart": self.apart, "overlapped": self.overlapped})

    @property
    def faster(self) -> bool:
        """Whether both at once take less."""
        return self.overlapped < self.apart


def _check_seconds(found: Mapping[str, float]) -> None:
    for name, seconds in found.items():
        if not 0 < seconds < math.inf:
            raise ResourceError(f"seconds of {name} are {seconds}, expected a positive number")


@dataclass(frozen=True)
class TimedMachine:
    """What a measurement is true of. `versions` have the driver's too, where there is one."""

    device: str
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Names the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Table:
    """The file."""

    format_version: int
    machine: TimedMachine
    entries: tuple[TimedEntry, ...]
    overlaps: tuple[Overlap, ...]


def bucket(rows: int) -> int:
    """`rows` up to the next multiple of BUCKET."""
    return max(1, -(-rows // BUCKET)) * BUCKET


def find(device: torch.device, shape: TimedShape) -> TimedEntry | None:
    """What was measured for a shape on a device."""
    return _entries(str(device)).get(shape)


def tiles(device: torch.device, inputs: int, outputs: int, rows: int) -> str | None:
    """The label of Triton's fastest tiles for a product, whatever came before it."""
    return _tiles(str(device)).get((bucket(rows), inputs, outputs))


def find_overlap(device: torch.device, pair: Pair) -> Overlap | None:
    """What was measured for both branches on a device."""
    return _overlaps(str(device)).get(pair)


def branches_note(device: torch.device, pair: Pair) -> str:
    """How both branches are computed on a device where there is room for both, and why: for people."""
    found = find_overlap(device, pair)
    if device.type != "cuda":
        return f"back to back: {device.type} has no streams"
    if found is None:
        return "back to back: not measured here (`bench tune` measures both ways)"
    apart, overlapped = f"{1e3 * found.apart:.1f} ms", f"{1e3 * found.overlapped:.1f} ms"
    if found.faster:
        return f"overlapped: some blocks took {overlapped} here, back to back {apart}"
    return f"back to back: some blocks took {apart} here, overlapped {overlapped}"


def note(device: torch.device) -> str:
    """What is known about a device, in words: for people."""
    return _read(str(device))[1]


def machine(device: torch.device) -> TimedMachine:
    """What tells this device from others that would measure otherwise."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    if device.type != "cuda":
        return TimedMachine(f"{computer.here.processor()}, {torch.get_num_threads()} threads", versions)
    versions |= {"driver": computer.here.nvidia_driver(), "cuda": str(torch.version.cuda)}
    card = torch.cuda.get_device_properties(device)
    return TimedMachine(f"{card.name}, {card.major}.{card.minor}, {card.multi_processor_count} multiprocessors", versions)


def write(device: torch.device, entries: tuple[TimedEntry, ...], overlaps: tuple[Overlap, ...] = ()) -> Path:
    """Keeps `entries`, `overlaps` and what was known of other shapes and pairs; returns the file.

    Raises:
        ResourceError: it cannot be written.
    """
    known = {**_entries(str(device)), **{entry.shape: entry for entry in entries}}
    pairs = {**_overlaps(str(device)), **{overlap.pair: overlap for overlap in overlaps}}
    table = Table(FORMAT_VERSION, machine(device), tuple(known.values()), tuple(pairs.values()))
    path = _path(table.machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole_file.write_text(path, json.dumps(asdict(table), indent=2) + "\n")
    except OSError as error:
        raise ResourceError(
            f"{path}: what was measured cannot be kept ({error}); free some space or set XDG_CACHE_HOME"
        ) from error
    forget()
    return path


def forget() -> None:
    """Reads the files again when they are needed next."""
    for cached in (_read, _entries, _tiles, _overlaps):
        cached.cache_clear()


def _path(found: TimedMachine) -> Path:
    return platformdirs.user_cache_path("ideogram-q8") / "kernels" / f"{found.digest}.json"


@functools.lru_cache(maxsize=16)
def _entries(device: str) -> Mapping[TimedShape, TimedEntry]:
    found = _read(device)[0]
    return {} if found is None else {entry.shape: entry for entry in found.entries}


@functools.lru_cache(maxsize=16)
def _tiles(device: str) -> Mapping[tuple[int, int, int], str]:
    shapes = [(entry.shape, entry.tiles) for entry in _entries(device).values()]
    return {(shape.rows, shape.inputs, shape.outputs): label for shape, label in shapes if label is not None}


@functools.lru_cache(maxsize=16)
def _overlaps(device: str) -> Mapping[Pair, Overlap]:
    found = _read(device)[0]
    return {} if found is None else {overlap.pair: overlap for overlap in found.overlaps}


@functools.lru_cache(maxsize=16)
def _read(device: str) -> tuple[Table | None, str]:
    """The table of a device, and what to say about it."""
    here = machine(torch.device(device))
    path = _path(here)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ResourceError(f"{path}: larger than {_LARGEST_FILE} characters")
        value = strict_json.parse_json(text, str(path), ResourceError)
        remedy = "`bench tune` writes it again"
        strict_json.check_version(value, FORMAT_VERSION, str(path), ResourceError, remedy)
        found = strict_json.decode(Table, value, str(path), ResourceError)
        if found.machine != here:
            raise ResourceError(
                f"{path}: measured on {found.machine.device} {dict(found.machine.versions)}, this is {here.device}"
            )
    except FileNotFoundError:
        return None, "not measured here: the order of back ends is the built-in one (`bench tune` measures)"
    except (OSError, UnicodeDecodeError, ResourceError) as error:
        said = f"ignored: {error}; `bench tune` measures again"
        _log.warning("%s", said)
        return None, said
    return found, f"{len(found.entries)} products measured on {here.device}: {path}"
