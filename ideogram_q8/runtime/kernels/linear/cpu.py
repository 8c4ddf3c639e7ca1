"""The W8A8 linear on CPUs with AVX512-VNNI, through `torch._int_mm`.

Without that instruction `torch._int_mm` is a scalar loop, 150 times slower than a bfloat16 product. And it asks the processor, not
oneDNN: with ONEDNN_MAX_CPU_ISA below VNNI, oneDNN adds pairs of products in 16 bits and saturates silently (pytorch issue 136746).
"""

from __future__ import annotations

import os

import torch

from ideogram_q8.numerics import int8
from ideogram_q8.runtime.kernels.linear.epilogue import scaled
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

ROWS = 256
"""Activations that go through prologue, quantizing, product and scaling together: what lies between stays in cache."""
_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT_AVX512 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
_WITHOUT_VNNI = _WITHOUT_AVX512 | {"AVX512_CORE"}
"""Values of oneDNN's cap below AVX512 and below AVX512-VNNI (oneDNN, "CPU Dispatcher Control")."""


def linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    """`kernels.int8_linear` for float [M, ...]."""
    y = x.new_empty(len(x), len(codes))
    weight = codes.t()
    for part, out in zip(x.split(ROWS), y.split(ROWS), strict=True):
        rows, row_scale = int8.quantize_per_token(before.apply(part))
        out.copy_(scaled(torch._int_mm(rows, weight), row_scale, scale, bias, x.dtype))
    return y


def refuses(device: str) -> str | None:
    """Why `linear` must not compute here, or None."""
    if device != "cpu":
        return f"needs a CPU, the tensors are on {device}"
    if not torch.cpu._is_vnni_supported():
        return "needs AVX512-VNNI, which this CPU does not have"
    if not torch.backends.mkldnn.enabled:
        return "needs oneDNN, which is switched off"
    if cap := _cap(_WITHOUT_VNNI):
        return f"{cap} is {os.environ[cap]}, with which oneDNN saturates; remove it"
    return None


def convolved_channels(channels: int) -> int:
    """Channels of a map that oneDNN convolves: it lays them out in blocks of a vector of float32, the last one filled up."""
    block = 16 if torch.cpu._is_avx512_supported() and not _cap(_WITHOUT_AVX512) else 8
    return -(-channels // block) * block


def _cap(values: frozenset[str]) -> str | None:
    """The environment variable that holds oneDNN to one of these instruction sets, or None."""
    return next((name for name in _CAPS if os.environ.get(name, "").upper() in values), None)
