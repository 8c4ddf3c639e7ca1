"""ggml's block formats as pure functions of tensors: encoding follows ggml's reference quantizers, decoding equals gguf-py.

Which ggml: ggml-quants.c (MIT) compiled for plain x86-64 without fused multiply-add (`-O2 -mno-fma -ffp-contract=off`). A ggml
compiled with it differs from its own source, in about one Q4_K block of 20. Sums run in ggml's order, one element after the
other, and every operation rounds once, so that bytes depend on no device and no thread count. On a CPU the searches
run compiled (`compiled`), with the same bytes.

Plain encoding is `quantize_<type>(..., NULL)`, what `ggml_quantize_chunk` and so every tool calls. That is `quantize_row_<type>_ref`
for every type but IQ4_NL, whose `_ref` searches less and leaves the codes of zero blocks unset. Weighted encoding is
`quantize_<type>(..., importance)`.

    q4_0    32 values   float16 d | 4-bit q                                              value = d (q - 8)
    q4_1    32 values   float16 d, m | 4-bit q                                           value = d q + m
    q5_0    32 values   float16 d | fifth bits, 4-bit q                                  value = d (q - 16)
    q5_1    32 values   float16 d, m | fifth bits, 4-bit q                               value = d q + m
    q8_0    32 values   float16 d | int8 q                                               value = d q
    q4_k    256 values  float16 d, dmin | 8 scales, 8 minima of 6 bits | 4-bit q         value = d scale q - dmin minimum
    q5_k    256 values  float16 d, dmin | 8 scales, 8 minima of 6 bits | fifth bits, q   value = d scale q - dmin minimum
    q6_k    256 values  4-bit q, upper bits | 16 int8 scales | float16 d                 value = d scale (q - 32)
    iq4_nl  32 values   float16 d | 4-bit q                                              value = d table[q]
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch

from ideogram_q8.model.dotted import function_at
from ideogram_q8.model.schemes import BLOCKS, FLOATS, Block

__all__ = ["BLOCKS", "FLOATS", "Block", "decode", "encode"]


_CHUNK = {"cpu": 1 << 18}
"""Values encoded at a time, by device: on a CPU what the many passes of a search touch stays in cache."""
_CHUNK_ELSEWHERE = 1 << 24


def encode(values: torch.Tensor, block: Block, importance: torch.Tensor | None = None) -> torch.Tensor:
    """float32 [..., K] (finite) -> uint8 [..., K / block_size * type_size].

    Args:
        importance: float32 [K], not negative, mostly the mean square of each input of the Linear: ggml's searches then weigh the
            error of each column by it. Q8_0 and the float types have no weighted form in ggml; theirs is the plain one.

    Raises:
        ValueError: K is not a multiple of the block size, or importance is not [K].
    """
    *rows, width = values.shape
    if width % block.block_size:
        raise ValueError(f"rows have {width} values; {block.name} stores multiples of {block.block_size}")
    if importance is not None and importance.shape != (width,):
        raise ValueError(f"importance is {list(importance.shape)}; rows of {width} values need [{width}]")
    weights = None if importance is None else importance.to(values.device, torch.float32)
    matrix = values.float().reshape(-1, width)
    out = torch.empty(len(matrix), block.row_bytes(width), dtype=torch.uint8, device=values.device)
    encoder = _function(block.encoder)
    count = max(1, _CHUNK.get(values.device.type, _CHUNK_ELSEWHERE) // width) if width else 1
    with np.errstate(all="ignore"):  # a sum that overflows does so silently, as in torch and in C
        for start in range(0, len(matrix), count):
            part = out[start : start + count]
            part.copy_(encoder(matrix[start : start + count], weights).reshape(part.shape))
    return out.reshape(*rows, block.row_bytes(width))


def decode(data: torch.Tensor, block: Block) -> torch.Tensor:
    """uint8 [..., B] -> float32 [..., B / type_size * block_size].

    Raises:
        ValueError: B is not a multiple of the type size.
    """
    *rows, size = data.shape
    if size % block.type_size:
        raise ValueError(f"rows have {size} bytes; {block.name} needs multiples of {block.type_size}")
    values = _function(block.decoder)(data.reshape(-1, block.type_size))
    return values.reshape(*rows, size // block.type_size * block.block_size)


@functools.cache
def _function(place: str) -> Callable[..., torch.Tensor]:
    return function_at("ideogram_q8.numerics.ggml", place)
