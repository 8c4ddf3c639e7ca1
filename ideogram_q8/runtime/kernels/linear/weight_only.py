"""Linears on FP8 and NF4 weights, expanded at each call: the arithmetic of the originals, on cards that have no such products."""

from __future__ import annotations

import torch

from ideogram_q8.numerics import fp8, nf4
from ideogram_q8.runtime.kernels.choosing.operators import linear_operator
from ideogram_q8.runtime.kernels.linear import tiles

NF4_PIECE = 1 << 22
"""NF4 values decoded at a time, at a dozen bytes each beside the result."""


@linear_operator
def fp8_linear(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x @ `numerics.fp8.dequantize_per_row`(weight, scale)^T + bias.

    Args:
        x: floating [..., K].
        weight: e4m3 [N, K].
        scale: float32 [N].
        bias: floating [N] or None.

    Returns:
        [..., N] in the dtype of `x`.
    """

    def expand(start: int, stop: int, out: torch.Tensor) -> None:
        fp8.dequantize_per_row(weight[start:stop], scale[start:stop], out)

    return tiles.linear(x.reshape(-1, x.shape[-1]), len(weight), expand, bias).reshape(*x.shape[:-1], len(weight))


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
    step = max(1, NF4_PIECE // inputs)

    def expand(start: int, stop: int, out: torch.Tensor) -> None:
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            into = out[first - start : first - start + step]
            into.copy_(nf4.dequantize(data[rows], absmax[rows].flatten(), inputs // absmax.shape[1]).view(-1, inputs))

    return tiles.linear(x.reshape(-1, inputs), len(data), expand, bias).reshape(*x.shape[:-1], len(data))
