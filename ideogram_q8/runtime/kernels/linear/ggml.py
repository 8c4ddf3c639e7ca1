"""A Linear on ggml's blocks: expanded at each call into the shared workspace, to the dtype of the activations or to int8 codes.

With a scale for each row, found once when the weight is loaded, the expanded codes are those of `numerics.int8` and the product is
that of `int8_linear`: W8A8 from a file of any block type.
"""

from __future__ import annotations

import functools
import importlib.util
import logging

import torch

from ideogram_q8.numerics import ggml, int8
from ideogram_q8.numerics.ggml import Block
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.runtime.kernels.choosing.choice import indexed, tell_triton, trial
from ideogram_q8.runtime.kernels.choosing.operators import linear_operator
from ideogram_q8.runtime.kernels.linear import tiles, triton_ggml
from ideogram_q8.runtime.kernels.linear.int8 import FEWEST_ROWS, int8_linear
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

_log = logging.getLogger(__name__)

PIECE = 1 << 20
"""Values that plain torch expands at a time on a CPU: 4 MiB of float32, which its cache holds."""
PIECE_OFF_CPU = 8 << 20
"""The same elsewhere, where each of the 30 operations on a piece is a launch: about 110 MiB with what decoding takes."""


@linear_operator
def ggml_linear(
    x: torch.Tensor,
    data: torch.Tensor,
    block: str,
    bias: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    step: str = "",
    factor: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """y = prologue(x) @ decode(data)^T + bias, the weight rounded once to the dtype of `x`; with `scale`, W8A8 on its int8 codes.

    Args:
        x: floating [..., K], [..., 2 K] for SwiGLU.
        data: uint8 [N, bytes of K values], contiguous.
        block: a key of `numerics.ggml.BLOCKS`.
        bias: floating [N] or None.
        scale: `row_scale(data)` or None. Fewer than FEWEST_ROWS rows of `x` are not quantized.
        step, factor, eps: of the `Prologue`.

    Returns:
        [..., N] in the dtype of `x`.
    """
    kind = ggml.BLOCKS[block]
    rows, outputs = x.reshape(-1, x.shape[-1]), len(data)
    if scale is not None and len(rows) >= FEWEST_ROWS:
        codes = workspace.take((outputs, data.shape[1] // kind.type_size * kind.block_size), torch.int8, x.device)
        expand(data, kind, codes, scale)
        y = int8_linear(rows, codes, scale, bias, step, factor, eps)
    else:
        rows = Prologue(step, factor, eps).apply(rows)
        y = tiles.linear(rows, outputs, lambda start, stop, out: expand(data[start:stop], kind, out), bias)
    return y.reshape(*x.shape[:-1], outputs)


def expand(data: torch.Tensor, block: Block, out: torch.Tensor, scale: torch.Tensor | None = None) -> None:
    """Writes the values of uint8 [N, bytes] into `out` [N, K]: floating, rounded once from float32; or int8, the codes for `scale`.

    On CUDA by Triton, where it is installed and exact; else in plain torch, a piece at a time.
    """
    if data.is_cuda and _triton_refuses(block.name, data.device) is None:
        triton_ggml.expand(data, block, out, scale)
    else:
        _expand_in_pieces(data, block, out, scale)


def _expand_in_pieces(data: torch.Tensor, block: Block, out: torch.Tensor, scale: torch.Tensor | None) -> None:
    step = _rows_of_a_piece(out.shape[1], data.device)
    for start in range(0, len(data), step):
        values = ggml.decode(data[start : start + step], block)
        if scale is not None:
            values.div_(scale[start : start + step]).round_().clamp_(-int8.CODE_MAX, int8.CODE_MAX)
        out[start : start + step] = values


def _rows_of_a_piece(width: int, device: torch.device) -> int:
    return max(1, (PIECE if device.type == "cpu" else PIECE_OFF_CPU) // max(1, width))


def row_scale(data: torch.Tensor, block: Block) -> torch.Tensor:
    """uint8 [N, bytes] -> float32 [N, 1]: the scale that `numerics.int8.quantize_per_channel` gives each row of the values."""
    width = data.shape[1] // block.type_size * block.block_size
    extremes = torch.empty(len(data), 2, device=data.device)  # all that the scale of a row depends on
    step = _rows_of_a_piece(width, data.device)
    for start in range(0, len(data), step):
        values = ggml.decode(data[start : start + step], block)
        torch.stack([values.amin(1), values.amax(1)], 1, out=extremes[start : start + step])
    return int8.quantize_per_channel(extremes)[1]


def expansion_refusal(block: str, device: torch.device) -> str | None:
    """Why Triton does not expand a block type on a device, or None; plain torch does it then."""
    return _triton_refuses(block, indexed(device)) if device.type == "cuda" else "needs CUDA"


@functools.lru_cache(maxsize=64)
def _triton_refuses(block: str, device: torch.device) -> str | None:
    """Why this block type is not expanded by Triton on a GPU, or None; logged. Compiles and tries the program once."""
    if importlib.util.find_spec("triton") is None:
        reason: str | None = "Triton is not installed"
    elif block not in triton_ggml.EXPANSIONS:
        reason = "it has no program for these blocks"
    else:
        reason = trial(lambda: wrong(ggml.BLOCKS[block], device))
    tell_triton(_log, f"expanding {block} on {device}", reason)
    return reason


def wrong(block: Block, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str | None:
    """What Triton's expansion of a block type to `dtype` and to int8 codes is not, or None."""
    data = ggml.encode(torch.linspace(-1, 1, 7 * 512).sin().reshape(7, 512), block).to(device)
    expected = ggml.decode(data, block)
    scale = row_scale(data, block)
    codes = torch.empty(expected.shape, dtype=torch.int8, device=device)
    rounded = torch.empty(expected.shape, dtype=dtype, device=device)
    triton_ggml.expand(data, block, rounded)
    triton_ggml.expand(data, block, codes, scale)
    same = torch.equal(rounded, expected.to(dtype)) and torch.equal(codes, int8.quantize_per_channel(expected)[0])
    return None if same else "its values are not those of the definition"
