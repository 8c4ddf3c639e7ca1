"""A source and a recipe in, an artifact's folder out: a few rows at a time, reading, computing and writing at once.

    threads of a pool    read rows of a tensor, decode, fold and pack them; each works on one core
    the writer           puts them into the file, in the tensors' order (`artifact.sink`)
    the syncer           waits for the disk and enters finished tensors in the journal
    the hashers          sha256 of the source meanwhile, of each written file after its last tensor

What is in memory is a fixed number of pieces, whatever the size of the tensors. A run that was stopped (Ctrl-C, a kill, a full disk)
leaves its hidden folder, and the next one for the same source, recipe and folder goes on from its journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.architecture import PartName
from ideogram_q8.artifact import journal, layout
from ideogram_q8.artifact.folder import check_space, check_target, disk_errors, new_folder, write_text
from ideogram_q8.artifact.forms import own_names
from ideogram_q8.artifact.placement import Placement
from ideogram_q8.artifact.sink import Sink
from ideogram_q8.checkpoint import Checkpoint
from ideogram_q8.components import component
from ideogram_q8.errors import ArtifactError
from ideogram_q8.folding import Folding
from ideogram_q8.manifest import FILE_NAME, FORMAT_VERSION, TOOL_VERSION, FileRecord, Manifest, sha256_of
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipe import Recipe
from ideogram_q8.threads import ahead, in_background, workers

HEADER_ALLOWANCE = 1 << 20
"""Bytes of a folder beside the tensors' data, generously: headers, padding, the manifest."""
_WORKERS = max(2, min(4, os.cpu_count() or 1))
"""Threads that compute; more would only wait for the disk."""
_PIECE = 1 << 20
"""Elements of a tensor that are read, computed and written together: what fits in the processor's cache."""
_HALF_MAX = 65504.0
_MODEL_TYPES: Mapping[PartName, str] = {"conditional": "ideogram4_cond", "unconditional": "ideogram4_uncond"}
"""What Comfy-Org's files say, and musubi-tuner reads."""
_NO_SHA256 = "0" * 64
"""Stands in the header for the source's sha256 until that is known."""


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
    on_progress: OnProgress | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Writes both branches of `source`, or its text encoder, and manifest.json into the folder `out`, which appears whole or not at all.

    An exception raised by `on_progress` cancels. The same source and recipe give the same weight files, on every device, and
    whether in one run or in several.

    Args:
        recipe: for a model of the source's dimensions.
        device: where the arithmetic runs, "cpu" or "cuda".
        overwrite: replaces an artifact in `out`; a folder with anything else in it is refused always.

    Raises:
        ArtifactError: the recipe is for another model, `out` must not be written to or another run is writing it, or a weight
            holds values that the scheme cannot store.
        SourceError: the source cannot be read, has changed, or holds values that no weight can have.
        ResourceError: too little disk space.
    """
    recipe.check(source.config)
    names = own_names(out)
    check_target(out, names, overwrite)
    job = _Job(source, recipe, device, on_progress)
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


@dataclass(frozen=True)
class _Piece:
    """Rows of a source tensor (of a vector, elements)."""

    name: str
    start: int
    stop: int
    last: bool


_Done = Mapping[str, Mapping[str, int]]
"""What `journal.finished` gives: CRC-32 by source tensor by file."""


class _BranchJob:
    """What one branch, or the text encoder, becomes: records, places in the file, and the arithmetic.

    Without state, for any number of threads.
    """

    def __init__(self, source: Checkpoint, recipe: Recipe, branch: PartName, device: str) -> None:
        self.source, self.recipe, self.branch, self.device = source, recipe, branch, device
        self.reader = source.branch(branch)
        self.file_name = layout.file_name(recipe.scheme, branch)
        self.stored = layout.stored_tensors(source.config, recipe, branch)
        self.records = tuple(record for records in self.stored.values() for record in records)
        self.container = layout.container(recipe.scheme)
        self.placement = self.place(_NO_SHA256)
        self._folding = Folding(recipe.parts[branch], source.config)
        self._plans = {f"{layer.linear}.weight": layer for layer in recipe.parts[branch].layers}
        self._plain = layout.plain_scheme(recipe)

    def place(self, source_sha256: str) -> Placement:
        """No paths of this machine in the header: equal sources give equal files wherever they lie."""
        metadata = {
            layout.BRANCH_KEY: self.branch,
            "ideogram_q8.tool_version": TOOL_VERSION,
            "ideogram_q8.source_sha256": source_sha256,
            "ideogram_q8.recipe_sha256": self.recipe.sha256,
        }
        if self.branch in _MODEL_TYPES:
            metadata = {"model_type": _MODEL_TYPES[self.branch], **metadata}
        return self.container.place(self.records, metadata)

    def size(self, name: str) -> int:
        """Bytes that a source tensor becomes."""
        return sum(self.container.stored_bytes(record) for record in self.stored[name])

    def pieces(self, done: Mapping[str, int]) -> Iterator[_Piece]:
        for name in self.stored:
            rows, *others = self.reader.shape(name)
            step = max(1, _PIECE // math.prod(others))
            for start in range(0, rows if name not in done else 0, step):
                yield _Piece(name, start, min(start + step, rows), start + step >= rows)

    def compute(self, piece: _Piece) -> list[tuple[int, torch.Tensor]]:
        """The piece as it is stored: tensors in main memory, and the offset of each in the file."""
        rows = self.reader.read_rows(piece.name, piece.start, piece.stop).to(self.device)
        folded = self._folding.apply(piece.name, rows, piece.start)
        records = self.stored[piece.name]
        scheme = records[0].scheme
        if folded is not rows or scheme in BLOCKS:
            _check_values(folded, f"{self.reader.path}: {piece.name}", scheme)
        parts = layout.pack(folded, self._plans.get(piece.name), self._plain)
        found = []
        for record, part in zip(records, parts, strict=True):
            size = self.container.stored_bytes(record)
            # what is stored once for the tensor comes whole with each piece
            begin = 0 if part.nbytes == size else size // self.reader.shape(piece.name)[0] * piece.start
            found.append((self.placement.offsets[record.name] + begin, part.cpu()))
        return found

    def is_sound(self, path: Path, done: Mapping[str, int]) -> bool:
        """Whether an earlier run wrote tensors of this file, and it has its size, and the tensor that came last its bytes."""
        name, check = list(done.items())[-1]
        if not done.keys() <= self.stored.keys() or not path.is_file() or path.stat().st_size != self.placement.size:
            return False
        record = self.stored[name][0]
        with path.open("rb") as file:
            file.seek(self.placement.offsets[record.name])
            return zlib.crc32(file.read(self.container.stored_bytes(record))) == check


class _Job:
    """One run of `quantize`."""

    def __init__(self, source: Checkpoint, recipe: Recipe, device: str, on_progress: OnProgress | None) -> None:
        self.source, self.recipe, self.on_progress = source, recipe, on_progress
        parts = component(source.config).parts
        self.branches = {part: _BranchJob(source, recipe, part, device) for part in parts}
        self.key = self._key()
        self.total_bytes = sum(job.size(name) for job in self.branches.values() for name in job.stored)
        self.done_bytes = self.resumed_bytes = 0
        self.hashes: dict[PartName, Future[str]] = {}
        self.started = time.monotonic()

    def _key(self) -> str:
        """What a journal must be of to go on from.

        The source's files by size and time: hashing them would take minutes. The headers say where this code puts what.
        """
        states = [(str(path), *state) for path, state in self.source.states.items()]
        headers = [hashlib.sha256(job.placement.header).hexdigest() for job in self.branches.values()]
        return hashlib.sha256(json.dumps([TOOL_VERSION, self.recipe.sha256, states, headers]).encode()).hexdigest()

    def can_resume(self, folder: Path) -> bool:
        done = journal.finished(folder, self.key)
        jobs = {job.file_name: job for job in self.branches.values()}
        known = bool(done) and done.keys() <= jobs.keys()
        return known and all(jobs[name].is_sound(folder / name, tensors) for name, tensors in done.items())

    def skip(self, done: _Done) -> int:
        """Counts what is done as done; returns the bytes that are left."""
        sizes = [job.size(name) for job in self.branches.values() for name in done.get(job.file_name, {})]
        self.done_bytes = self.resumed_bytes = sum(sizes)
        return self.total_bytes - self.done_bytes

    def run(self, folder: Path, done: _Done) -> Manifest:
        source_record = in_background(self.source.record)
        complete: list[PartName] = []

        def begin_hashing() -> None:
            if source_record.done():
                source_record.result()  # raises at once what hashing the source found
                for branch in complete:
                    if branch not in self.hashes:
                        self.hashes[branch] = self._finish(folder, branch)

        with journal.Journal(folder, self.key) as notes, workers(_WORKERS) as pool:
            for branch in self.branches:
                self._write(folder, branch, done, notes, pool, begin_hashing)
                complete.append(branch)
            source_record.result()
            begin_hashing()
        return self._manifest(folder)

    def _write(
        self,
        folder: Path,
        branch: PartName,
        done: _Done,
        notes: journal.Journal,
        pool: ThreadPoolExecutor,
        after_tensor: Callable[[], None],
    ) -> None:
        job = self.branches[branch]
        with Sink(folder / job.file_name, job.placement.size, notes) as sink:
            pieces = job.pieces(done.get(job.file_name, {}))
            for piece, parts in ahead(pool, job.compute, pieces, 4 * _WORKERS):
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

    def _finish(self, folder: Path, branch: PartName) -> Future[str]:
        """Writes the header of a complete file and begins to hash it."""
        job = self.branches[branch]
        path = folder / job.file_name
        with path.open("r+b") as file:
            file.write(job.place(self.source.sha256(branch)).header)
            file.flush()
            os.fsync(file.fileno())
        return in_background(lambda: sha256_of(path))

    def _manifest(self, folder: Path) -> Manifest:
        files = tuple(
            FileRecord(job.file_name, (folder / job.file_name).stat().st_size, self.hashes[branch].result(), branch)
            for branch, job in self.branches.items()
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
            tensors={file.path: self.branches[file.branch].records for file in files},
        )


def _check_values(tensor: torch.Tensor, where: str, scheme: str) -> None:
    largest = tensor.abs().max().item()
    if not math.isfinite(largest):
        raise ArtifactError(f"{where} leaves bfloat16's range by the recipe's smoothing; make the recipe again")
    if scheme in BLOCKS and largest > _HALF_MAX:
        raise ArtifactError(f"{where} reaches {largest:g}; {scheme} has float16 scales: use int8, or check the source")
