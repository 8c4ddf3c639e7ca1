"""What the studio reports while it works, as plain data, and the counters that report bytes and steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ideogram_q8.runtime.memory import usage
from ideogram_q8.ui.engine.streaming import Emit

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request, Step
    from ideogram_q8.runtime.loading.model import Model


@dataclass(frozen=True)
class Building:
    """The variant is being quantized, which happens once."""

    variant: str
    fraction: float


@dataclass(frozen=True)
class Downloading:
    """Files are on their way from the Hub: bytes that are here, all that are wanted, bytes a second; seconds left, where that is known."""

    variant: str
    here: int
    total: int
    rate: float
    seconds_left: float | None

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.here / self.total if self.total else 1.0


@dataclass(frozen=True)
class Loading:
    """The variant's weights and the text encoder are being read."""

    variant: str


@dataclass(frozen=True)
class Painting:
    """A denoising step is done. `index` counts from 1; times in seconds."""

    variant: str
    index: int
    total: int
    seconds_per_step: float
    seconds_left: float
    preview: Image.Image | None


@dataclass(frozen=True)
class Picture:
    """A finished picture. `reused` says that it was painted earlier, with the times and memory of then.

    `entry` is its number in the library. `total_seconds` leaves out encoding the caption, which all variants share; `stages` has the
    peak bytes of each stage of the work.
    """

    variant: str
    request: Request
    path: Path
    metadata: dict[str, object]
    seconds_per_step: float
    total_seconds: float
    peak_bytes: int
    entry: int
    reused: bool = False
    stages: Mapping[str, int] = field(default_factory=dict)


Work = Building | Downloading | Loading | Painting
Event = Work | Picture
RATE_SECONDS = 8.0
"""A rate is the mean of so many seconds."""


class ByteTracker:
    """Turns bytes into `Downloading` events. What was here before it began says nothing about the rate.

    `before` and `after` are bytes that come with them: here already, and still to come.
    """

    def __init__(self, variant: str, emit: Emit[Event], before: int = 0, after: int = 0) -> None:
        self.variant, self.emit = variant, emit
        self.before, self.after = before, after
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, here: int, total: int) -> None:
        here, total = self.before + here, self.before + total + self.after
        now, seen = time.monotonic(), self._seen
        seen.append((now, here))
        while now - seen[0][0] > RATE_SECONDS:
            seen.popleft()
        seconds = now - seen[0][0]
        rate = (here - seen[0][1]) / seconds if seconds else 0.0
        self.emit(Downloading(self.variant, here, total, rate, (total - here) / rate if rate > 0 else None))


class StepTracker:
    """Turns steps into `Painting` events with the mean time so far."""

    def __init__(self, variant: str, model: Model, emit: Emit[Event]) -> None:
        self.variant, self.model, self.emit = variant, model, emit
        self.seconds = 0.0
        self.stages: dict[str, int] = {}
        """Peak bytes of the stages that are over."""

    def encode(self, request: Request) -> None:
        """The first stage by itself, where its result is kept for the others."""
        from ideogram_q8.runtime.generation.sampling import encode_caption

        usage.reset_peak(self.model.device)
        if self.model.captions is not None:
            encode_caption(self.model, request.caption)
            self.stages["Caption"] = usage.peak_bytes(self.model.device)

    def __call__(self, step: Step) -> None:
        if step.is_last:
            self.stages["Denoising"] = usage.peak_bytes(self.model.device)
            usage.reset_peak(self.model.device)
        done = step.index + 1
        self.seconds += step.seconds
        mean = self.seconds / done
        left = mean * (step.total - done)
        self.emit(Painting(self.variant, done, step.total, mean, left, step.preview()))
