"""One run of `quantize`: its threads, its journal, and its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds import journal
from ideogram_q8.builds.folder import check_space, check_target, disk_errors, new_folder, write_text
from ideogram_q8.builds.forms import own_names
from ideogram_q8.builds.layout import Packaging, PlannedFile
from ideogram_q8.builds.quantization.part import PartJob
from ideogram_q8.builds.sink import Sink
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import FILE_NAME, FORMAT_VERSION, TOOL_VERSION, FileRecord, Manifest, sha256_of
from ideogram_q8.machine.threads import ahead, in_background, workers
from ideogram_q8.model.schemes import GGUF_SCHEMES
from ideogram_q8.recipes import Recipe
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.sources import Checkpoint

HEADER_ALLOWANCE = 1 << 20
"""Bytes of a folder beside the tensors' data, generously: headers, padding, the manifest."""
_WORKERS = max(2, min(4, os.cpu_count() or 1))
"""Threads that compute; more would only wait for the disk."""
_DEFAULT = Packaging()


@dataclass(frozen=True)
class Progress:
    """After a tensor: bytes computed and to compute in all (tensors' data), the tensor's official name, seconds since the start.

    `resumed_bytes` of them an earlier run has written.
    """

    done_bytes: int
    total_bytes: int
    name: str
    seconds: float
    resumed_bytes: int = 0


OnProgress = Callable[[Progress], None]


def quantize(
    source: Checkpoint,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    importance: Importance | None = None,
    packaging: Packaging = _DEFAULT,
    on_progress: OnProgress | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Writes the branches of `source`, or its text encoder, and manifest.json into the folder `out`, which appears whole or not at all.

    An exception raised by `on_progress` cancels. The same source, recipe and packaging give the same weight files, on every device,
    and whether in one run or in several.

    Args:
        recipe: for a model of the source's dimensions; what it plans for parts that the source has not is left out.
        device: where the arithmetic runs, "cpu" or "cuda".
        importance: the statistics that a recipe with weighted Linears names.
        packaging: of GGUF files.
        overwrite: replaces an artifact in `out`; a folder with anything else in it is refused always.

    Raises:
        ArtifactError: the recipe is for another model, `out` must not be written to or another run is writing it, or a weight
            holds values that the scheme cannot store.
        RequestError: the recipe's statistics are not given, or others are; or a packaging that its files cannot have.
        SourceError: the source cannot be read, has changed, or holds values that no weight can have.
        ResourceError: too little disk space.
    """
    recipe = recipe.only(source.parts)
    recipe.check(source.config)
    _check(recipe, importance, packaging)
    names = own_names(out)
    check_target(out, names, overwrite)
    job = _Job(source, recipe, device, importance, packaging, on_progress)
    with new_folder(out, names, overwrite, job.can_resume) as folder:
        done = journal.finished(folder, job.key)
        check_space(out, job.skip(done) + HEADER_ALLOWANCE)
        with disk_errors(folder.parent):
            manifest = job.run(folder, done)
            write_text(folder / FILE_NAME, manifest.to_json())
    # not before the folder has its name: until then a kill must leave what the next run can go on from
    with contextlib.suppress(OSError):  # readers pass over a journal, and the next run may replace it
        (out / journal.NAME).unlink()
    return manifest


def _check(recipe: Recipe, importance: Importance | None, packaging: Packaging) -> None:
    weighted = recipe.is_weighted
    if weighted and (importance is None or importance.sha256 != recipe.stats_sha256):
        given = "none are given" if importance is None else f"those given have {importance.sha256}"
        raise RequestError(f"the recipe weighs by statistics of sha256 {recipe.stats_sha256}, {given}; give --importance FILE")
    if recipe.scheme not in GGUF_SCHEMES and packaging != _DEFAULT:
        raise RequestError(
            f"an architecture and a split size are for GGUF files, the scheme is {recipe.scheme}; leave them out"
        )


_Done = Mapping[str, Mapping[str, int]]
"""What `journal.finished` gives: CRC-32 by source tensor by file."""


class _Job:
    """One run of `quantize`."""

    def __init__(
        self,
        source: Checkpoint,
        recipe: Recipe,
        device: str,
        importance: Importance | None,
        packaging: Packaging,
        on_progress: OnProgress | None,
    ) -> None:
        self.source, self.recipe, self.on_progress = source, recipe, on_progress
        jobs = [PartJob(source, recipe, part, device, importance, packaging) for part in source.parts]
        self.parts = jobs
        self.files = {file.name: (job, file) for job in jobs for file in job.files}
        self.key = self._key()
        self.total_bytes = sum(job.size(name) for job in jobs for name in job.stored)
        self.done_bytes = self.resumed_bytes = 0
        self.hashes: dict[str, Future[str]] = {}
        self.started = time.monotonic()

    def _key(self) -> str:
        """What a journal must be of to go on from.

        The source's files by size and time: hashing them would take minutes. The headers say where this code puts what.
        """
        states = [(str(path), *state) for path, state in self.source.states.items()]
        headers = [hashlib.sha256(file.placement.header).hexdigest() for _, file in self.files.values()]
        return hashlib.sha256(json.dumps([TOOL_VERSION, self.recipe.sha256, states, headers]).encode()).hexdigest()

    def can_resume(self, folder: Path) -> bool:
        done = journal.finished(folder, self.key)
        known = bool(done) and done.keys() <= self.files.keys()
        return known and all(self._is_sound(folder, name, tensors) for name, tensors in done.items())

    def _is_sound(self, folder: Path, name: str, done: Mapping[str, int]) -> bool:
        job, file = self.files[name]
        return job.is_sound(file, folder / name, done)

    def skip(self, done: _Done) -> int:
        """Counts what is done as done; returns the bytes that are left."""
        sizes = [job.size(tensor) for name, (job, _) in self.files.items() for tensor in done.get(name, {})]
        self.done_bytes = self.resumed_bytes = sum(sizes)
        return self.total_bytes - self.done_bytes

    def run(self, folder: Path, done: _Done) -> Manifest:
        source_record = in_background(self.source.record)
        complete: list[str] = []

        def begin_hashing() -> None:
            if source_record.done():
                source_record.result()  # raises at once what hashing the source found
                for name in complete:
                    if name not in self.hashes:
                        self.hashes[name] = self._finish(folder, name)

        with journal.Journal(folder, self.key) as notes, workers(_WORKERS) as pool:
            for name, (job, file) in self.files.items():
                with Sink(folder / name, file.placement.size, notes) as sink:
                    self._write(job, file, sink, done.get(name, {}), pool, begin_hashing)
                complete.append(name)
            source_record.result()
            begin_hashing()
        return self._manifest(folder)

    def _write(
        self,
        job: PartJob,
        file: PlannedFile,
        sink: Sink,
        done: Mapping[str, int],
        pool: ThreadPoolExecutor,
        after_tensor: Callable[[], None],
    ) -> None:
        for piece, parts in ahead(pool, job.compute, job.pieces(file, done), 4 * _WORKERS):
            sink.write(parts)
            if piece.last:
                sink.end_tensor(piece.name)
                self._advance(job.size(piece.name), piece.name)
                after_tensor()
        sink.flush()

    def _advance(self, size: int, name: str) -> None:
        self.done_bytes += size
        if self.on_progress is not None:
            seconds = time.monotonic() - self.started
            self.on_progress(Progress(self.done_bytes, self.total_bytes, name, seconds, self.resumed_bytes))

    def _finish(self, folder: Path, name: str) -> Future[str]:
        """Writes the header of a complete file and begins to hash it."""
        job, file = self.files[name]
        path = folder / name
        header = job.plan(self.source.sha256(job.part))[job.files.index(file)].placement.header
        with path.open("r+b") as opened:
            opened.write(header)
            opened.flush()
            os.fsync(opened.fileno())
        return in_background(lambda: sha256_of(path))

    def _manifest(self, folder: Path) -> Manifest:
        files = tuple(
            FileRecord(name, (folder / name).stat().st_size, self.hashes[name].result(), job.part)
            for name, (job, _) in self.files.items()
        )
        return Manifest(
            format_version=FORMAT_VERSION,
            tool_version=TOOL_VERSION,
            variant=self.recipe.variant,
            scheme=self.recipe.scheme,
            source=self.source.record(),
            traits=self.source.traits,
            transformer=self.source.config.to_json(),
            recipe=self.recipe.to_value(),
            files=files,
            tensors={name: file.records for name, (_, file) in self.files.items()},
        )
