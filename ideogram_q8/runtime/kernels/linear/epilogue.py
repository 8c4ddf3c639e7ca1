"""What turns sums of int8 products into outputs, in plain torch: the definition that fused epilogues follow."""

from __future__ import annotations

import torch


def scaled(
    product: torch.Tensor, row_scale: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """int32 [M, N], float32 [M, 1], float32 [N, 1], [N] -> float32(product) * row_scale * scale + bias, rounded once to `dtype`."""
    y = product.to(torch.float32).mul_(row_scale).mul_(scale.t())
    if bias is not None:
        y += bias
    return y.to(dtype)
