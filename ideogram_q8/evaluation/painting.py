"""Paints with one variant in a process of its own, so that peak memory and times are that variant's and nobody else's.

`paint` writes the order into a folder and starts `python -m ideogram_q8.evaluation.painting FOLDER`, which leaves the pictures
and what they took there. The process imports what a picture needs and nothing more: no metrics, no OCR.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from tqdm import tqdm

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, RequestError
from ideogram_q8.generation import Request, generate
from ideogram_q8.loading import load
from ideogram_q8.strict_json import decode, parse_json

T = TypeVar("T")
ORDER, OUTCOME, REFUSAL = "order.json", "outcome.json", "refusal.txt"
_BUSY = slice(0, 3), slice(5, 8)
"""Fields of a line of /proc/stat: user, nice, system; irq, softirq, steal. Left out: idle, iowait, guests (within user)."""


@dataclass(frozen=True)
class Order:
    """What to paint. `location` is what `loading.load` takes."""

    location: str
    device: str
    dtype: str
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Outcome:
    """What one variant took, in the order of the requests.

    Attributes:
        step_seconds: of each picture, the time of each step.
        peak_bytes: of each picture, as in `memory.peak_bytes`.
        other_cpus: CPUs that other programs kept busy on average meanwhile; None where the system does not tell.
    """

    variant: str
    artifact_sha256: str
    step_seconds: tuple[tuple[float, ...], ...]
    peak_bytes: tuple[int, ...]
    other_cpus: float | None


def paint(order: Order) -> tuple[Outcome, list[Image.Image]]:
    """Paints in a new process that ends before this returns; a first picture warms up and is thrown away.

    Raises:
        RequestError: the process refused the order, or died; the message says why, or with which exit code.
    """
    with tempfile.TemporaryDirectory(prefix="ideogram-q8-") as name:
        folder = Path(name)
        (folder / ORDER).write_text(json.dumps(dataclasses.asdict(order)), encoding="utf-8")
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "ideogram_q8.evaluation.painting", name]
        code = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode
        if (folder / REFUSAL).is_file():
            raise RequestError((folder / REFUSAL).read_text(encoding="utf-8"))
        if code:
            raise RequestError(f"painting with {order.location} ended with exit code {code}; what it printed says why")
        outcome = _read(Outcome, folder / OUTCOME)
        return outcome, [_open(folder / _picture(i)) for i in range(len(order.requests))]


def work(folder: Path) -> None:
    """The whole of the other process: reads the order in `folder`, writes pictures and, at the end, the outcome."""
    order = _read(Order, folder / ORDER)
    model = load(order.location, device=order.device, dtype=getattr(torch, order.dtype))
    generate(model, order.requests[0])
    step_seconds: list[tuple[float, ...]] = []
    peaks: list[int] = []
    others = OtherPrograms()
    for i, request in enumerate(tqdm(order.requests, desc=f"painting with {model.variant}", unit="picture")):
        seconds: list[float] = []
        result = generate(model, request, on_step=lambda step: seconds.append(step.seconds))  # noqa: B023 - called before the next
        step_seconds.append(tuple(seconds))
        peaks.append(result.peak_bytes)
        result.image.save(folder / _picture(i))
    outcome = Outcome(model.variant, result.artifact_sha256, tuple(step_seconds), tuple(peaks), others.mean_cpus())
    (folder / OUTCOME).write_text(json.dumps(dataclasses.asdict(outcome)), encoding="utf-8")


class OtherPrograms:
    """How busy everything but this process keeps the CPUs that this process may use, from the time it is made."""

    def __init__(self) -> None:
        self._start = _clocks()

    def mean_cpus(self) -> float | None:
        """CPUs on average since then, 0 or more; None without Linux's /proc/stat. Its clock ticks 100 times a second."""
        now = _clocks()
        if self._start is None or now is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / wall)


def _clocks() -> tuple[float, float, float] | None:
    """Seconds of CPU time used by all programs, of CPU time used by this process, and of wall time."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        usable = {f"cpu{i}" for i in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    lines_of_cpus = [words[1:] for words in (line.split() for line in lines) if words and words[0] in usable]
    ticks = sum(int(field) for fields in lines_of_cpus for part in _BUSY for field in fields[part])
    return ticks / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()


def _read(cls: type[T], path: Path) -> T:
    return decode(cls, parse_json(path.read_text(encoding="utf-8"), path.name, ArtifactError), path.name, ArtifactError)


def _picture(index: int) -> str:
    return f"{index:04}.png"


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def main(folder: Path) -> int:
    """Exit code 2 after a refusal, as everywhere; its text is left in the folder."""
    try:
        work(folder)
    except IdeogramQ8Error as error:
        (folder / REFUSAL).write_text(str(error), encoding="utf-8")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
