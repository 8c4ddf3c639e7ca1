"""The engine behind the page: builds and loads variants, paints, remembers what it painted. Knows nothing of Gradio.

One model is in memory at a time, because two would not fit on the card this is meant for; a lock makes a second visitor wait.
"""

from __future__ import annotations

import dataclasses
import gc
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ideogram_q8 import generation, variants
from ideogram_q8.architecture import Traits
from ideogram_q8.checkpoint import open_source
from ideogram_q8.generation import Request, Step
from ideogram_q8.loading import Model, load
from ideogram_q8.png import write_png
from ideogram_q8.quantization import Progress
from ideogram_q8.ui.streaming import Cancelled, Emit, stream
from ideogram_q8.variants import Variant

REMEMBERED_PICTURES = 64


@dataclass(frozen=True)
class Building:
    """The variant is being quantized, which happens once."""

    variant: str
    fraction: float


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
    preview: Image.Image


@dataclass(frozen=True)
class Picture:
    """A finished picture. `reused` says that it was painted earlier, with the times and memory of then."""

    variant: str
    request: Request
    path: Path
    metadata: dict[str, object]
    seconds_per_step: float
    total_seconds: float
    peak_bytes: int
    reused: bool = False


Event = Building | Loading | Painting | Picture


class Studio:
    """Paints pictures with any variant of one source.

    Args:
        source: what `open_source` takes.
        outputs: folder for pictures; made when missing.
        cache: folder for built variants; None is the user's cache folder.
        artifacts: folders to offer beside the source's own variants.
        device, dtype: where models run, and in which precision (torch's name).
    """

    def __init__(
        self,
        source: str,
        outputs: Path,
        cache: Path | None = None,
        *,
        artifacts: Sequence[Path] = (),
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.source, self.outputs, self.cache, self.device, self.dtype = source, outputs, cache, device, dtype
        self.traits: Traits = open_source(source).traits
        self._given = variants.given(artifacts, source)
        outputs.mkdir(parents=True, exist_ok=True)
        self._busy = threading.Lock()
        self._closed = threading.Event()
        self._model: Model | None = None
        self._model_variant: str | None = None
        self._pictures: OrderedDict[tuple[str, Request], Picture] = OrderedDict()

    @property
    def loaded_variant(self) -> str | None:
        """The variant in memory."""
        return self._model_variant

    def variants(self) -> list[Variant]:
        """All variants, with what is known of them now."""
        return [*variants.catalogue(self.source, self.cache), *self._given]

    def paint(self, variant: str, request: Request, *, reuse: bool = False) -> Generator[Event, None, None]:
        """Yields what happens, last the `Picture`. Closing the iterator stops the work at its next step.

        Args:
            variant: the name of one of `variants()`.
            request: what to paint.
            reuse: take the picture from an earlier run where there is one.

        Raises:
            IdeogramQ8Error: the request cannot be honoured, or a file is not what it should be.
        """
        request.check(self.traits)  # before minutes go into a build
        known = self._pictures.get((variant, request))
        if reuse and known is not None and known.path.is_file():
            yield dataclasses.replace(known, reused=True)
            return

        def work(emit: Emit[Event]) -> None:
            self._work(variant, request, self._until_closed(emit))

        yield from stream(work)

    def close(self) -> None:
        """Ends running work at its next step and waits for that: a process must not end inside a computation of torch."""
        self._closed.set()
        with self._busy:
            self._model = self._model_variant = None

    def _until_closed(self, emit: Emit[Event]) -> Emit[Event]:
        def guarded(event: Event) -> None:
            if self._closed.is_set():
                raise Cancelled
            emit(event)

        return guarded

    def _work(self, variant: str, request: Request, emit: Emit[Event]) -> None:
        with self._busy:
            model = self._load(variant, emit)
            if model.placement(request.width, request.height).keep_text_encoder:
                _ = model.text_encoder  # else it is read within the first picture, and counted into its time
            tracker = _StepTracker(variant, emit)
            result = generation.generate(model, request, on_step=tracker)
            metadata = generation.metadata(result)
            path = self.outputs / _file_name(variant, request)
            write_png(path, result.image, metadata)
            picture = Picture(
                variant, request, path, metadata, result.seconds_per_step, result.total_seconds, result.peak_bytes
            )
            self._remember(picture)
            emit(picture)

    def _load(self, variant: str, emit: Emit[Event]) -> Model:
        if self._model is not None and self._model_variant == variant:
            return self._model

        def on_progress(progress: Progress) -> None:
            emit(Building(variant, progress.done_bytes / max(1, progress.total_bytes)))

        found = next((known.location for known in self._given if known.name == variant), None)
        location = found or variants.prepare(variant, self.source, self.cache, on_progress)
        emit(Loading(variant))
        self._model = self._model_variant = None
        gc.collect()
        model = load(location, device=self.device, dtype=getattr(torch, self.dtype))
        self._model, self._model_variant = model, variant
        return self._model

    def _remember(self, picture: Picture) -> None:
        key = (picture.variant, picture.request)
        self._pictures[key] = picture
        self._pictures.move_to_end(key)
        while len(self._pictures) > REMEMBERED_PICTURES:
            self._pictures.popitem(last=False)


class _StepTracker:
    """Turns steps into `Painting` events with the mean time so far."""

    def __init__(self, variant: str, emit: Emit[Event]) -> None:
        self.variant, self.emit = variant, emit
        self.seconds = 0.0

    def __call__(self, step: Step) -> None:
        done = step.index + 1
        self.seconds += step.seconds
        mean = self.seconds / done
        left = mean * (step.total - done)
        self.emit(Painting(self.variant, done, step.total, mean, left, step.preview()))


def _file_name(variant: str, request: Request) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{variant}-seed{request.seed}-{request.preset}-{secrets.token_hex(3)}.png"
