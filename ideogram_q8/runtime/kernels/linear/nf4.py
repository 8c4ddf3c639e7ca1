"""A Linear on NF4 weights, expanded at each call: the arithmetic of the original in bitsandbytes' four bits."""

from __future__ import annotations

import torch

from ideogram_q8.numerics import nf4
from ideogram_q8.runtime.kernels.choosing.operators import linear_operator
from ideogram_q8.runtime.kernels.linear import tiles

PIECE = 1 << 22
"""Values decoded at a time, at a dozen bytes each beside the result."""


@linear_operator
def nf4_linear(x: torch.Tensor, data: torch.Tensor, absmax: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x @ `numerics.nf4.dequantize`(data, absmax)^T + bias.

    Args:
        x: floating [..., K].
        data: uint8 [N, K / 2].
        absmax: float32 [N, K / block].
        bias: floating [N] or None.

    Returns:
        [..., N] in the dtype of `x`.
    """
    inputs = x.shape[-1]
    step = max(1, PIECE // inputs)

    def expand(start: int, stop: int, out: torch.Tensor) -> None:
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            into = out[first - start : first - start + step]
            into.copy_(nf4.dequantize(data[rows], absmax[rows].flatten(), inputs // absmax.shape[1]).view(-1, inputs))

    return tiles.linear(x.reshape(-1, inputs), len(data), expand, bias).reshape(*x.shape[:-1], len(data))
