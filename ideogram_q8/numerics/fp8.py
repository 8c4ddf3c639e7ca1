"""The official checkpoint's format: F8_E4M3 weights with one float32 scale per row (ideogram-oss/ideogram4, quantized_loading.py)."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
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


def dequantize_per_row(weight: torch.Tensor, scale: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """float8_e4m3fn [N, K], float32 [N] -> bfloat16 [N, K], or the same numbers in `out`, of any floating dtype.

    As `Fp8Linear.forward` of the official code does for bfloat16 activations: the scale is rounded to bfloat16 before the
    product, and the product once more. A float32 product rounded once differs in the last bit.
    """
    factors = scale.to(torch.bfloat16)[:, None]
    if out is None:
        return to_bfloat16(weight).mul_(factors)
    if out.dtype == torch.bfloat16 and out.device.type != "cpu":
        return out.copy_(weight).mul_(factors)  # in place: what lies between would be as large as the weight
    return out.copy_(to_bfloat16(weight).mul_(factors))


def to_bfloat16(codes: torch.Tensor) -> torch.Tensor:
    """float8_e4m3fn -> bfloat16 of the same shape, exactly.

    On the CPU two codes at a time from a table of 256 kB, which stays in the cache: ten times the speed of torch's conversion.
    """
    if codes.device.type != "cpu" or codes.numel() % 2:
        return codes.to(torch.bfloat16)
    found = torch.empty(codes.shape, dtype=torch.bfloat16)
    pairs = codes.contiguous().view(torch.uint8).flatten().numpy().view(np.uint16)
    # any mode but "raise", which would copy the output; no index can be out of range
    np.take(_pair_table(), pairs, mode="wrap", out=found.view(torch.int16).flatten().numpy().view(np.uint32))
    return found


@cache
def _pair_table() -> npt.NDArray[np.uint32]:
    """The bits of two bfloat16 numbers for every pair of codes, in the machine's own byte order."""
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).to(torch.bfloat16).view(torch.int16).numpy()
    codes = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    return values[codes].view(np.uint32)
