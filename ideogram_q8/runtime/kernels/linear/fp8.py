"""A Linear on FP8 weights, expanded at each call: the original's arithmetic, for cards without FP8 products."""

from __future__ import annotations

import torch

from ideogram_q8.numerics import fp8
from ideogram_q8.runtime.kernels.choosing.operators import linear_operator
from ideogram_q8.runtime.kernels.linear import tiles


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
