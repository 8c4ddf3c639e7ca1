"""The engine behind the page: builds and loads variants, paints, remembers what it painted. Knows nothing of Gradio.

One model is in memory at a time, because two would not fit on the card this is meant for; a lock makes a second visitor wait.
What paints is imported by `warm_up`, so that a page can be there seconds before.
"""

from __future__ import annotations

import dataclasses
import gc
import secrets
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ideogram_q8.builds.variants import Variant
from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.formats.png import write_png
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine.devices import AUTO
from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.model.architecture import IDEOGRAM4, Traits, TransformerConfig
from ideogram_q8.runtime.memory import usage
from ideogram_q8.sources import open_source, open_text_encoder
from ideogram_q8.ui.doors.private import PRIVATE_FILE, check_disk, make_private, temporary_folder
from ideogram_q8.ui.engine.copies import Copies
from ideogram_q8.ui.engine.events import Event, Loading, Picture, StepTracker
from ideogram_q8.ui.engine.library import Library
from ideogram_q8.ui.engine.stock import Stock
from ideogram_q8.ui.engine.streaming import Cancelled, Emit, T, stream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

    from ideogram_q8.formats.report import Report
    from ideogram_q8.runtime.generation.sampling import Request, Result
    from ideogram_q8.runtime.loading.model import Model
    from ideogram_q8.runtime.memory.budget import Networks
    from ideogram_q8.ui.engine.fitting import Fit

REMEMBERED_PICTURES = 64
_importing = threading.Lock()


def warm_up() -> None:
    """Imports what paints, which takes seconds once; whoever calls meanwhile waits.

    To be called before anything else that needs it: transformers' lazy modules break when two threads import from them at once.
    """
    with _importing:
        import ideogram_q8.measure.metrics
        import ideogram_q8.runtime.generation.sampling
        import ideogram_q8.runtime.memory.inventory  # noqa: F401


class Studio:
    """Paints pictures with any variant of one source.

    Args:
        source: what `open_source` takes.
        outputs: folder for pictures; made when missing.
        cache: folder for built variants; None is the user's cache folder.
        artifacts: folders and Hub ids to offer beside the source's own variants.
        report: figures of variants that have none beside their files.
        device, dtype: where models run, and in which precision (torch's name).
        prompt_expander: a folder or Hub id of what writes captions (`expansion.find_head`); None looks for one.
        preview_decoder: what shows steps (`preview.load_tiny`); None looks for one.
    """

    def __init__(
        self,
        source: str,
        outputs: Path,
        cache: Path | None = None,
        *,
        artifacts: Sequence[Path | str] = (),
        report: Report | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        prompt_expander: str | None = None,
        preview_decoder: Path | None = None,
    ) -> None:
        self.source, self.outputs, self.cache, self.device, self.dtype = source, outputs, cache, device, dtype
        self.stock = Stock(source, artifacts, cache)
        self.traits: Traits = self.stock.traits
        self.config: TransformerConfig = self.stock.config
        self.folder, self.prompt_expander, self.preview_decoder = self.stock.folder, prompt_expander, preview_decoder
        self.report = report
        make_private(outputs)
        self.temporary = temporary_folder(outputs.with_name(f"{outputs.name}.temporary"))
        self.copies = Copies(outputs, self.temporary)
        self._busy = threading.Lock()
        self._closed = threading.Event()
        self._model: Model | None = None
        self._model_variant: str | None = None
        self._pictures: OrderedDict[tuple[str, str, Request], Picture] = OrderedDict()
        self.last: Picture | None = None
        """The picture that was painted last, whoever's it is."""
        self._networks: Networks | None = None
        self.library = Library(outputs.with_name(f"{outputs.name}.sqlite"))

    @property
    def loaded_variant(self) -> str | None:
        """The variant in memory."""
        return self._model_variant

    def variants(self) -> list[Variant]:
        """All variants, with what is known of them now."""
        return self.stock.variants()

    @property
    def preview(self) -> str | None:
        """What shows the steps, in words, and why nothing better; None before a model has shown one."""
        chosen = vars(self._model).get("preview") if self._model is not None else None  # not chosen by looking
        return None if chosen is None else str(chosen.said)

    def available(self) -> int:
        """Bytes that a plan may use of the device, those of the one that is loaded included."""
        return usage.room(torch.device(self.device)) + self._held()

    def _held(self) -> int:
        """Bytes of the device that the loaded model gives back when it is dropped."""
        return 0 if self._model is None else self._model.device_bytes()

    def fit(self, variant: Variant, size: tuple[int, int]) -> Fit | None:
        """What a picture of `size` (width, height) takes, and whether the device has it; None while that is not known."""
        warm_up()
        from ideogram_q8.ui.engine.fitting import fit

        base = None if variant.problem else self._base()
        if base is None:
            return None
        return fit(base, variant.name, self.stock.described_in(variant.name), size, self.available(), self.device)

    def _base(self) -> Networks | None:
        """The source's own networks, read once; None of an unknown model that is not here."""
        from ideogram_q8.runtime.memory import inventory

        dtype, source = getattr(torch, self.dtype), self.stock.source
        if self._networks is None and source is not None:
            opened = open_source(source)
            self._networks = inventory.of_files(opened, opened.folder, opened.config, dtype)
        return self._networks or (inventory.of_ideogram4("fp8", dtype) if self.config == IDEOGRAM4 else None)

    def paint(self, variant: str, request: Request, *, owner: str = "", reuse: bool = False) -> Generator[Event, None, None]:
        """Yields what happens, last the `Picture`. Closing the iterator stops the work at its next step.

        Args:
            variant: the name of one of `variants()`.
            request: what to paint.
            owner: whose history the picture goes to.
            reuse: take the owner's picture from an earlier run where there is one.

        Raises:
            IdeogramQ8Error: the request cannot be honoured, a file is not what it should be, or memory ran out.
        """
        warm_up()
        request.check(self.traits)  # before minutes go into a build
        check_disk(self.outputs)
        known = self._pictures.get((owner, variant, request))
        if reuse and known is not None and known.path.is_file():
            yield dataclasses.replace(known, reused=True)
            return

        def work(emit: Emit[Event]) -> None:
            self._work(variant, request, owner, self._until_closed(emit))

        yield from stream(work)

    @contextmanager
    def turn(self, emit: Emit[T]) -> Iterator[Emit[T]]:
        """The device to oneself, and how to report: that raises Cancelled once the studio is closed."""
        with self._busy:
            try:
                yield self._until_closed(emit)
            except Exception as error:
                if not lacks_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)
                self._drop()
                raise ResourceError(f"{self.device} ran out of memory; close other programs") from error

    def text_encoder(self) -> tuple[Qwen3VLTextModel, PreTrainedTokenizerBase]:
        """Within a `turn`: whole on the device, that of the loaded model, or one by itself, which takes the model's place."""
        from ideogram_q8.runtime.loading.text_encoder import load_text_encoder

        encoder = None if self._model is None else self._model.whole_text_encoder()
        if self._model is not None and encoder is not None:
            return encoder, self._model.tokenizer
        self._drop()
        alone = load_text_encoder(open_text_encoder(self.stock.whole_source()), self.device, getattr(torch, self.dtype))
        return alone.model, alone.tokenizer

    @contextmanager
    def unoccupied(self) -> Iterator[bool]:
        """Whether no picture is painted; none will be within the context where none is."""
        free = self._busy.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._busy.release()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Keeps pictures from being painted within the context, and no model loaded. Raises RequestError: one is being painted."""
        if not self._busy.acquire(blocking=False):
            raise RequestError("a picture is being painted; wait for it, or cancel it")
        try:
            self._drop()
            yield
        finally:
            self._busy.release()

    def close(self) -> None:
        """Ends running work at its next step and waits for that: a process must not end inside a computation of torch."""
        self._closed.set()
        with _importing, self._busy:
            self._model = self._model_variant = None

    def _until_closed(self, emit: Emit[T]) -> Emit[T]:
        def guarded(event: T) -> None:
            if self._closed.is_set():
                raise Cancelled
            emit(event)

        return guarded

    def _work(self, variant: str, request: Request, owner: str, emit: Emit[Event]) -> None:
        with self._busy:
            picture = self._paint(variant, request, owner, emit)
            self._remember(owner, picture)
            emit(picture)

    def _paint(self, variant: str, request: Request, owner: str, emit: Emit[Event]) -> Picture:
        from ideogram_q8.runtime.generation import sampling

        try:
            result, tracked = self._compute(variant, request, emit)
        except Exception as error:
            if not lacks_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # where it failed, the model is still a local variable
            self._drop()
            raise self._no_memory(variant, request) from error
        stages = {**tracked, "Decoding": result.peak_bytes}
        metadata = sampling.metadata(result)
        path = self.outputs / _file_name(variant, request)
        write_png(path, result.image, metadata, PRIVATE_FILE)
        entry = self.library.add(owner, path.name, metadata | {"variant": variant})
        times = result.seconds_per_step, result.total_seconds
        return Picture(variant, request, path, metadata, *times, max(stages.values()), entry, stages=stages)

    def _compute(self, variant: str, request: Request, emit: Emit[Event]) -> tuple[Result, dict[str, int]]:
        """The picture, and the peak of each stage before its decoding. Everything else it knows ends with it, also when it fails."""
        from ideogram_q8.runtime.generation import sampling

        model = self._load(variant, (request.width, request.height), emit)
        tracker = StepTracker(variant, model, emit)
        tracker.encode(request)
        return sampling.generate(model, request, on_step=tracker), tracker.stages

    def _drop(self) -> None:
        """Gives the model's memory back to the device, what its weights were expanded into, and pinned pages of the host."""
        from ideogram_q8.runtime.kernels.choosing import workspace

        self._model = self._model_variant = None
        workspace.release()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.accelerator.empty_host_cache()

    def _no_memory(self, variant: str, request: Request) -> ResourceError:
        size = request.width, request.height
        fits = {each.name: (each.title, fit.needed) for each in self.variants() if (fit := self.fit(each, size))}
        needed = fits[variant][1] if variant in fits else None  # not known of a model whose own weights are not here
        smaller = [title for title, less in fits.values() if needed is not None and less < 0.9 * needed]
        takes = "" if needed is None else f" needs about {gigabytes(needed)},"
        choice = f"choose {' or '.join(smaller)}, or a smaller picture" if smaller else "choose a smaller picture"
        return ResourceError(
            f"{self.device} ran out of memory: {variant} at {request.width}x{request.height}{takes or ':'} "
            f"{gigabytes(self.available())} are free; {choice}, or close other programs"
        )

    def _load(self, variant: str, size: tuple[int, int], emit: Emit[Event]) -> Model:
        """The variant, placed so that it has room for a picture of `size`; it is loaded anew where another plan has.

        A model stays placed as the largest picture needed it: going back costs a load, and what is streamed is mostly hidden.
        """
        from ideogram_q8.builds.opening import open_weights
        from ideogram_q8.runtime.loading.model import load
        from ideogram_q8.runtime.loading.planning import find_plan

        model = self._model if self._model_variant == variant else None
        if model is not None and model.has_room(*size):
            return model
        location, source = self.stock.location(variant, emit)
        opened, dtype = open_weights(location, source=source), getattr(torch, self.dtype)
        if model is not None:
            plan = find_plan(AUTO, opened, size, torch.device(self.device), dtype, held=self._held())
            if plan in (None, model.plan):
                return model  # which says what is missing when it is to paint
        emit(Loading(variant))
        del model
        self._drop()
        model = load(opened, device=self.device, dtype=dtype, size=size)
        model.preview_decoder = self.preview_decoder
        self._model, self._model_variant = model, variant
        return self._model

    def _remember(self, owner: str, picture: Picture) -> None:
        key = (owner, picture.variant, picture.request)
        self._pictures[key] = self.last = picture
        self._pictures.move_to_end(key)
        while len(self._pictures) > REMEMBERED_PICTURES:
            self._pictures.popitem(last=False)


def _file_name(variant: str, request: Request) -> str:
    """Not to be guessed: whoever knows a file's name can fetch it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{variant}-seed{request.seed}-{request.preset}-{secrets.token_hex(8)}.png"
