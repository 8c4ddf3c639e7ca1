"""How fast GGUF's types are encoded on one core: here, and by ggml's own C quantizer where there is one to load.

Both get the same values, drawn as weights are, in memory; files, decoding and threads play no part. ggml is that of an installed
llama-cpp-python, or any shared library that exports `ggml_quantize_chunk`; it is whatever its builder made of it, mostly with fused
multiply-add and AVX2. A process loads and runs what the library's file contains: name one that you trust.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ideogram_q8.errors import RequestError
from ideogram_q8.numerics import ggml

_ROWS, _WIDTH = 128, 4096
_PASSES = 5
_LIBRARIES = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")


@dataclass(frozen=True)
class EncoderRate:
    """Weights a second on one core; `ggml` is None where there is no library to compare with, and `note` says which, or why."""

    type: str
    weighted: bool
    ours: float
    ggml: float | None
    note: str


def measure(types: Sequence[tuple[str, bool]], library: Path | None = None) -> tuple[EncoderRate, ...]:
    """The rate of each (block type, weighted); the best of a few passes over the same values.

    Raises:
        RequestError: `library` cannot be loaded, or is not ggml's.
    """
    path = find_library() if library is None else library
    quantize = None if path is None else _load(path)
    note = str(path) if path is not None else "not measured: llama-cpp-python is not installed"
    generator = torch.Generator().manual_seed(0)
    values, importance = torch.randn(_ROWS, _WIDTH, generator=generator) * 0.02, torch.rand(_WIDTH, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return tuple(_measure(name, values, importance if weighted else None, quantize, note) for name, weighted in types)
    finally:
        torch.set_num_threads(threads)


_Quantize = Callable[[int, torch.Tensor, torch.Tensor | None, int], None]


def _measure(
    name: str, values: torch.Tensor, importance: torch.Tensor | None, quantize: _Quantize | None, note: str
) -> EncoderRate:
    block = ggml.BLOCKS[name]
    size = _ROWS * block.row_bytes(_WIDTH)
    ours = _rate(lambda: ggml.encode(values, block, importance))
    theirs = None if quantize is None else _rate(lambda: quantize(block.gguf_type, values, importance, size))
    return EncoderRate(name, importance is not None, ours, theirs, note)


def _rate(function: Callable[[], object]) -> float:
    """Weights a second of this process's own CPU time, so that other programs count less; the first pass warms up."""
    function()
    best = float("inf")
    for _ in range(_PASSES):
        start = time.thread_time()
        function()
        best = min(best, time.thread_time() - start)
    return _ROWS * _WIDTH / best


def find_library() -> Path | None:
    """ggml of an installed llama-cpp-python, which is not imported for that."""
    spec = importlib.util.find_spec("llama_cpp")
    folders = [Path(folder) / "lib" for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    return next((folder / name for folder in folders for name in _LIBRARIES if (folder / name).is_file()), None)


def _load(path: Path) -> _Quantize:
    try:
        chunk = ctypes.CDLL(str(path)).ggml_quantize_chunk
    except (OSError, AttributeError) as error:
        raise RequestError(
            f"{path} is not ggml's library: {error}; expected libggml-base, which has ggml_quantize_chunk"
        ) from None
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]

    def quantize(kind: int, values: torch.Tensor, importance: torch.Tensor | None, size: int) -> None:
        out = np.empty(size, np.uint8)
        weights = None if importance is None else importance.data_ptr()
        chunk(kind, values.data_ptr(), out.ctypes.data, 0, _ROWS, _WIDTH, weights)

    return quantize
