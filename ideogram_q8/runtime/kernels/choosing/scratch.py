"""What kernels take beside their inputs, weight and output, in bytes, without running them."""

from __future__ import annotations

import torch

from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.numerics.attention import SCORES, heads_at_once
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.numerics.int8 import EXACT_WIDTH
from ideogram_q8.runtime.kernels.linear import cpu, tiles
from ideogram_q8.runtime.kernels.linear.ggml import PIECE
from ideogram_q8.runtime.kernels.linear.int8 import EXACT_ROWS, INT_MM_ROWS
from ideogram_q8.runtime.kernels.linear.weight_only import NF4_PIECE

_NF4_DECODING = 14
"""The same of NF4: indices, levels, scales and their product."""
_DECODING = 10
"""Bytes that plain torch takes for each value of ggml's blocks that it decodes, beside the result; 8 to 12 by type."""


def scratch_bytes(
    scheme: str, rows: int, outputs: int, inputs: int, dtype: torch.dtype, device: str, compute: str = COMPUTES[0]
) -> int:
    """Scratch of one product [rows, inputs] x [outputs, inputs]^T: the expanded weight, or codes of activations and sums of products.

    On a CPU both go through the cache a tile at a time.
    """
    if scheme in ("bf16", "f16", "f32"):
        return 0
    if scheme == "w8a8":
        return _int8_scratch(rows, outputs, inputs, dtype, device)
    decoding = _DECODING * min(outputs * inputs, PIECE) if scheme in BLOCKS and device == "cpu" else 0
    if scheme == "nf4":
        decoding = _NF4_DECODING * min(outputs * inputs, NF4_PIECE)
    if scheme in BLOCKS and compute == "int8":
        return outputs * inputs + max(decoding, _int8_scratch(rows, outputs, inputs, dtype, device))
    return decoding + min(outputs * inputs, tiles.TILE if device == "cpu" else tiles.PART) * dtype.itemsize


def kept_bytes(scheme: str, outputs: int, inputs: int, dtype: torch.dtype, device: str, compute: str = COMPUTES[0]) -> int:
    """What of `scratch_bytes` stays in `workspace` after the product, on a card: the weight, or the part expanded at once.

    A CPU's tiles are small beside what a step takes.
    """
    if device == "cpu" or scheme in ("bf16", "f16", "f32", "w8a8"):
        return 0
    if scheme in BLOCKS and compute == "int8":
        return outputs * inputs
    return min(outputs * inputs, tiles.PART) * dtype.itemsize


def _int8_scratch(rows: int, outputs: int, inputs: int, dtype: torch.dtype, device: str) -> int:
    """Codes of the activations and sums as int32, or what a back end in plain torch makes of a piece of the rows."""
    if device != "cpu":
        part = min(rows, INT_MM_ROWS)
        rotating = part * inputs * (4 * 4 + dtype.itemsize)  # float32: the groups, and three of a stage; and the rows before
        scaling = part * (inputs + outputs * (8 + dtype.itemsize))  # sums, and scaled in float32
        return max(rows * inputs + rows * outputs * 4, rotating, scaling)
    exact = cpu.refuses(device) is not None
    rows = min(rows, EXACT_ROWS if exact else cpu.ROWS)
    quantizing = rows * inputs * (1 + 8 + dtype.itemsize)  # codes; quotients, what is quantized, and it normalized in float32
    if not exact:
        scaled = 8 + (
            dtype.itemsize if dtype.itemsize < 4 else 0
        )  # sums as int32 and as float32, which is also the output's dtype
        return max(quantizing, rows * inputs + rows * outputs * scaled)
    tile = min(outputs, tiles.rows_of_a_tile(rows, outputs, inputs))
    operands = 4 * (rows + tile) * min(inputs, EXACT_WIDTH)
    return max(quantizing, rows * inputs + max(8 * rows * tile + operands, 12 * rows * tile))


def attention_scratch_bytes(tokens: int, heads: int, width: int, device: str) -> int:
    """Scratch of `int8_attention`: codes of queries and keys and float16 values of all heads, with their scales.

    On a CPU of some heads, with keys and values in float32 beside, and so many scores, as weights in float32 and float16.
    """
    if device != "cpu":
        return heads * tokens * (4 * width + 8)
    heads = min(heads, heads_at_once(tokens, tokens))
    rows = min(tokens, max(1, SCORES // (heads * tokens)))
    return heads * (tokens * (10 * width + 8) + rows * (10 * tokens + 4 * width))
