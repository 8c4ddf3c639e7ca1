"""How fast `quantize` is, against two limits of the machine that it runs on, measured in the same run.

    copy      the source's files copied into the same folder and synced: what the disk allows
    memory    one pass that reads as many bytes and writes as many: what memory allows an ideal program on a fast disk

All three are given as GB of the source (10^9 bytes) a second. Before the copy and before quantizing the system is asked to drop the
source from its cache (posix_fadvise); it may not, and elsewhere than on Linux it is not asked. `quantize` runs in a process of its
own, so that its peak memory is its own, and its time is without the start of Python.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.bench import encoders
from ideogram_q8.bench.encoders import EncoderRate
from ideogram_q8.bench.processes import apart
from ideogram_q8.builds.folder import check_space, disk_errors
from ideogram_q8.builds.quantization import HEADER_ALLOWANCE, quantize
from ideogram_q8.errors import RequestError
from ideogram_q8.formats import manifest
from ideogram_q8.machine import platforms as machine
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipes import Recipe
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.runtime.memory.usage import available_bytes, peak_bytes
from ideogram_q8.sources import Source

_BUFFER = 16 << 20
_MEMORY_BYTES = 1 << 30
"""Source and target together are more than the largest processor cache holds (AMD EPYC 9684X: 1152 MiB of L3)."""
_MEMORY_PASSES = 5


@dataclass(frozen=True)
class QuantizingRun:
    """Bytes, seconds and GB (10^9 bytes) of source a second; the last line of the command's output, as JSON."""

    variant: str
    device: str
    source_bytes: int
    written_bytes: int
    seconds: float
    quantize_rate: float
    copy_rate: float
    memory_rate: float
    share_of_copy: float
    share_of_memory: float
    peak_bytes: int
    source_cache: str
    processor: str
    cores: int
    system: str
    versions: dict[str, str]
    encoders: tuple[EncoderRate, ...]


def measure(
    source: Source,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    importance: Importance | None = None,
    ggml_library: Path | None = None,
    on_rate: Callable[[str, float], None] = lambda _what, _rate: None,
) -> QuantizingRun:
    """Copies and quantizes `source` into a temporary folder in `folder`, whose disk is the one that is measured.

    Of a GGUF recipe, the rate of each block type's encoder on one core stands beside that of ggml's own C.

    Args:
        on_rate: called with each of the three rates, GB (10^9 bytes) of source a second, as soon as it is measured.

    Raises:
        IdeogramQ8Error: as `quantize`.
        RequestError: `folder` is none.
        ResourceError: too little disk space.
    """
    files, size = _files(source)
    with _scratch(folder, size) as place:
        cache, copy_rate = _copy_rate(files, size, place / "copy")
        on_rate("copy of the source", copy_rate)
        run = apart("quantized", _quantize, source, recipe, place / "out", device, importance)
    rate = size / run.seconds / 1e9
    on_rate(f"quantize to {recipe.variant}", rate)
    memory_rate = _memory_rate()
    on_rate("one pass over memory", memory_rate)
    return QuantizingRun(
        variant=recipe.variant,
        device=device,
        source_bytes=size,
        written_bytes=run.written_bytes,
        seconds=run.seconds,
        quantize_rate=rate,
        copy_rate=copy_rate,
        memory_rate=memory_rate,
        share_of_copy=rate / copy_rate,
        share_of_memory=rate / memory_rate,
        peak_bytes=run.peak_bytes,
        source_cache=cache,
        processor=machine.here.processor() if device == "cpu" else torch.cuda.get_device_name(),
        cores=os.cpu_count() or 1,
        system=platform.platform(),
        versions={"ideogram_q8": manifest.TOOL_VERSION, "python": platform.python_version(), "torch": torch.__version__},
        encoders=encoders.measure(_encoders(recipe), ggml_library),
    )


@contextlib.contextmanager
def _scratch(folder: Path, size: int) -> Iterator[Path]:
    """A new folder in `folder` with room for `size` bytes, removed at the end. Raises RequestError, ResourceError."""
    if not folder.is_dir():
        raise RequestError(f"no folder {folder} to write into; name one on the disk that is to be measured")
    with disk_errors(folder), tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as place:
        check_space(Path(place), size + HEADER_ALLOWANCE)
        yield Path(place)


def _copy_rate(files: Sequence[Path], size: int, folder: Path) -> tuple[str, float]:
    """What was done to the system's cache, before and after, and GB of `files` a second that are copied into `folder`, a new one."""
    drop_from_cache(files)
    rate = size / _seconds(lambda: _copy(files, folder)) / 1e9
    return drop_from_cache(files), rate


def _encoders(recipe: Recipe) -> list[tuple[str, bool]]:
    """The block types of a recipe, and whether they are weighted, each once."""
    found = [(plan.scheme, plan.weighted) for part in recipe.parts.values() for plan in part.layers if plan.scheme in BLOCKS]
    return sorted(set(found))


def _files(source: Source) -> tuple[list[Path], int]:
    """The weight files of both branches, each once, and their bytes."""
    files = list(dict.fromkeys(path for branch in BRANCHES for path in source.branch(branch).files))
    return files, sum(path.stat().st_size for path in files)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Copies, syncs and removes the copies again; the removal is quick."""
    folder.mkdir()
    buffer = memoryview(bytearray(_BUFFER))
    for index, path in enumerate(files):
        target = folder / str(index)
        with path.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
            while count := reading.readinto(buffer):
                part = buffer[:count]
                while part:
                    part = part[writing.write(part) :]
            os.fsync(writing.fileno())
    for index in range(len(files)):
        (folder / str(index)).unlink()


def drop_from_cache(files: Sequence[Path]) -> str:
    """Asks the system to forget what it has read of `files`; returns what was done, for people."""
    forgotten = [machine.here.forget(path) for path in files]
    return "dropped before each run (posix_fadvise)" if any(forgotten) else "as it was"


@dataclass(frozen=True)
class _Run:
    seconds: float
    written_bytes: int
    peak_bytes: int


def _quantize(source: Source, recipe: Recipe, out: Path, device: str, importance: Importance | None) -> _Run:
    start = time.perf_counter()
    made = quantize(source, recipe, out, device=device, importance=importance)
    seconds = time.perf_counter() - start
    return _Run(seconds, sum(file.size for file in made.files), peak_bytes(torch.device("cpu")))


def _memory_rate() -> float:
    """GB read a second while as much is written, by torch's own copy on all cores; the best of a few passes."""
    short = available_bytes(torch.device("cpu")) < 4 * _MEMORY_BYTES
    size = _MEMORY_BYTES // 2 if short else _MEMORY_BYTES
    values = torch.ones(size, dtype=torch.uint8)
    target = torch.zeros_like(values)
    best = min(_seconds(lambda: target.copy_(values)) for _ in range(_MEMORY_PASSES))
    return size / best / 1e9
