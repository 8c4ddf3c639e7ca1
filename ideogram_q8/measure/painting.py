"""Paints with one variant in a process of its own, so that peak memory and times are that variant's and nobody else's.

`paint` writes the order into a temporary folder and starts `python -m ideogram_q8.measure.painting FOLDER`, which leaves each picture
in the order's folder with a record of what it took. The record is written last and names the picture's sha256, so a killed run leaves
nothing that looks finished, and the same order goes on where it was. The process imports what a picture needs and nothing more: no
metrics, no OCR.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, RequestError
from ideogram_q8.formats import whole_file
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.formats.png import write_png
from ideogram_q8.formats.strict_json import decode, parse_json
from ideogram_q8.machine import platforms as machine
from ideogram_q8.measure import energy, latents
from ideogram_q8.measure.latents import Errors
from ideogram_q8.runtime.generation.sampling import Request, Step, encode_caption, generate, initial_noise, metadata
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.memory import usage

T = TypeVar("T")
ORDER, REFUSAL = "order.json", "refusal.txt"


@dataclass(frozen=True)
class Item:
    """A picture to paint: `name` is its file's stem, `way` the file of the reference's way to compare with or to keep."""

    name: str
    request: Request
    way: str | None


@dataclass(frozen=True)
class PaintingOrder:
    """What to paint, and where to.

    Attributes:
        location: what `loading.load` takes; `artifact_sha256` is what is expected there.
        attention: one of `devices.ATTENTIONS`, `compute` one of `devices.COMPUTES`.
        folder: for pictures and records; made if missing.
        reference: the artifact_sha256 of the variant whose ways are compared with; None keeps this one's ways.
        later: pictures that other variants still have to paint, for the time left.
    """

    location: str
    artifact_sha256: str
    device: str
    dtype: str
    attention: str
    compute: str
    folder: str
    reference: str | None
    items: tuple[Item, ...]
    later: int = 0


@dataclass(frozen=True)
class Started:
    """What a process took before its first picture: seconds until it had read a caption, and peak bytes of each stage of a picture.

    That picture warmed it up and is not kept.
    """

    load_seconds: float
    text_bytes: int
    denoise_bytes: int
    decode_bytes: int


@dataclass(frozen=True)
class Painted:
    """A finished picture and what it took.

    Attributes:
        seconds: of the whole picture; `step_seconds` of each step.
        peak_bytes: as in `memory.peak_bytes`.
        joules: of the graphics card; None where it does not tell.
        other_cpus: CPUs that other programs kept busy on average meanwhile; None where the system does not tell.
        reference, errors: the variant that its way was compared with, and how far it was off; None where it was not compared.
    """

    request: Request
    picture_sha256: str
    step_seconds: tuple[float, ...]
    seconds: float
    peak_bytes: int
    joules: float | None
    other_cpus: float | None
    started: Started
    reference: str | None
    errors: Errors | None


def picture_path(folder: str | Path, item: Item) -> Path:
    """Where an item's picture is; its record lies beside it."""
    return Path(folder) / f"{item.name}.png"


def paint(order: PaintingOrder) -> list[Painted]:
    """Paints what is not there yet, in a new process that ends before this returns; a first picture warms up and is thrown away.

    Raises:
        RequestError: the process refused the order, or died; the message says why, or with which exit code.
    """
    waiting = [item for item in order.items if finished(order, item) is None]
    if waiting:
        _start(dataclasses.replace(order, items=tuple(waiting)))
    found = [finished(order, item) for item in order.items]
    missing = [item.name for item, record in zip(order.items, found, strict=True) if record is None]
    if missing:
        raise RequestError(f"{order.folder} lacks {missing[0]} though it was painted; is something else writing there?")
    return [record for record in found if record is not None]


def finished(order: PaintingOrder, item: Item) -> Painted | None:
    """The record of a picture that is there whole and was made as ordered; None otherwise."""
    picture = picture_path(order.folder, item)
    try:
        record = _read(Painted, picture.with_suffix(".json"))
        sound = record.request == item.request and sha256_of(picture) == record.picture_sha256
    except (OSError, ArtifactError):
        return None
    if item.way is not None:
        compared = record.reference == order.reference and (record.errors is not None)
        sound = sound and (compared if order.reference is not None else Path(item.way).is_file())
    return record if sound else None


def _start(order: PaintingOrder) -> None:
    with tempfile.TemporaryDirectory(prefix="ideogram-q8-") as name:
        folder = Path(name)
        (folder / ORDER).write_text(json.dumps(dataclasses.asdict(order)), encoding="utf-8")
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "ideogram_q8.measure.painting", name]
        code = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode
        if (folder / REFUSAL).is_file():
            raise RequestError((folder / REFUSAL).read_text(encoding="utf-8"))
        if code:
            raise RequestError(f"painting with {order.location} ended with exit code {code}; what it printed says why")


# ---- the other process ----


def work(folder: Path) -> None:
    """The whole of the other process: reads the order in `folder` and carries it out."""
    order = _read(PaintingOrder, folder / ORDER)
    started = time.perf_counter()
    dtype = getattr(torch, order.dtype)
    largest = max(((item.request.width, item.request.height) for item in order.items), key=math.prod)
    compute, attention = order.compute, order.attention
    model = load(order.location, device=order.device, dtype=dtype, compute=compute, attention=attention, size=largest)
    model.captions = None  # a caption known from another run would spare the text encoder, its time and its memory
    if model.artifact_sha256 != order.artifact_sha256:
        raise ArtifactError(
            f"{order.location} has sha256 {model.artifact_sha256[:12]}..., expected {order.artifact_sha256[:12]}...; it changed meanwhile"
        )
    took = _warm_up(model, order.items[0].request, started)
    Path(order.folder).mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(order.items), desc=f"painting with {model.variant}", unit="picture") as bar:
        for item in order.items:
            _paint(model, order, item, took)
            bar.update()
            each = bar.format_dict["elapsed"] / bar.n
            left = each * (len(order.items) - bar.n + order.later)
            bar.set_postfix_str(f"{tqdm.format_interval(left)} left for all variants")


def _warm_up(model: Model, request: Request, started: float) -> Started:
    """Peaks of the three stages, from one picture; what is lazy or compiled on first use is there afterwards."""
    usage.reset_peak(model.device)
    encode_caption(model, request.caption)
    load_seconds = time.perf_counter() - started
    peaks = [usage.peak_bytes(model.device)]

    def watch(step: Step) -> None:
        if step.is_last:
            peaks.append(usage.peak_bytes(model.device))
        if step.index == 0 or step.is_last:
            usage.reset_peak(model.device)

    decode = generate(model, request, on_step=watch).peak_bytes
    return Started(load_seconds, peaks[0], peaks[1], decode)


def _paint(model: Model, order: PaintingOrder, item: Item, took: Started) -> None:
    places: list[torch.Tensor] = []
    seconds: list[float] = []

    def watch(step: Step) -> None:
        seconds.append(step.seconds)
        if item.way is not None:
            places.append(step.latents)

    counter = energy.counter(model.device)
    others, joules = OtherPrograms(), counter() if counter else 0.0
    result = generate(model, item.request, on_step=watch)
    used = counter() - joules if counter else None
    busy = others.mean_cpus()
    errors = None
    if item.way is not None:
        found = latents.way(initial_noise(item.request, model.config.in_channels), places)
        if order.reference is None:
            latents.write(Path(item.way), found)
        else:
            errors = latents.errors(latents.read(Path(item.way)), found)
    picture = picture_path(order.folder, item)
    write_png(picture, result.image, metadata(result))
    reference = None if errors is None else order.reference
    _write(
        picture.with_suffix(".json"),
        Painted(
            item.request,
            sha256_of(picture),
            tuple(seconds),
            result.total_seconds,
            result.peak_bytes,
            used,
            busy,
            took,
            reference,
            errors,
        ),
    )


def _write(path: Path, record: Painted) -> None:
    """Writes the record as JSON, whole or not at all."""
    whole_file.write_text(path, json.dumps(dataclasses.asdict(record)))


def _read(cls: type[T], path: Path) -> T:
    return decode(cls, parse_json(path.read_text(encoding="utf-8"), path.name, ArtifactError), path.name, ArtifactError)


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 after a refusal, as everywhere; its text is left in the folder."""
    folder = Path(arguments[0])
    try:
        work(folder)
    except IdeogramQ8Error as error:
        (folder / REFUSAL).write_text(str(error), encoding="utf-8")
        return 2
    return 0


class OtherPrograms:
    """How busy all other programs keep the CPUs that this process may use, from the time it is made; no time means much without."""

    def __init__(self) -> None:
        self._start = _clocks()

    def mean_cpus(self) -> float | None:
        """CPUs on average since then, 0 or more; None where the system does not tell (`System.busy_seconds`)."""
        now = _clocks()
        if self._start is None or now is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / wall)


def _clocks() -> tuple[float, float, float] | None:
    """Seconds of CPU time used by all programs, of CPU time used by this process, and of wall time."""
    busy = machine.here.busy_seconds()
    return None if busy is None else (busy, time.process_time(), time.perf_counter())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
