"""The official checkpoint's format: F8_E4M3 weights with one float32 scale per row (ideogram-oss/ideogram4, quantized_loading.py)."""

from __future__ import annotations

import torch

E4M3_MAX = 448.0


def quantize_per_row(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [N, K] -> (float8_e4m3fn [N, K], scale float32 [N]), as `quantize_weight_to_fp8` of the official code: amax / 448."""
    values = weight.float()
    amax = values.abs().amax(1).clamp_min(1e-12)
    # by a tensor: CUDA turns division by a number into a product with its reciprocal, which rounds twice
    scale = amax / torch.full_like(amax, E4M3_MAX)
    codes = (values / scale[:, None]).clamp(-E4M3_MAX, E4M3_MAX)
    return codes.to(torch.float8_e4m3fn), scale


def dequantize_per_row(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """float8_e4m3fn [N, K], float32 [N] -> bfloat16 [N, K].

    As `Fp8Linear.forward` of the official code does for bfloat16 activations: the scale is rounded to bfloat16 before the
    product, and the product once more. A float32 product rounded once differs in the last bit.
    """
    return weight.to(torch.bfloat16) * scale.to(torch.bfloat16)[:, None]
