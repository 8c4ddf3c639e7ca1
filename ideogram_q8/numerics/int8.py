"""Symmetric int8: weights by output row, activations by token, and their exact integer product.

Codes are in [-127, 127], the scale is amax / 127 in float32, rounding is to the nearest even. A row of zeros has scale 1.
"""

from __future__ import annotations

import torch

from ideogram_q8.numerics import rotation

CODE_MAX = 127
EXACT_WIDTH = 1024
"""Longest dot product of int8 codes that float32 holds exactly: 1024 * 128^2 = 2^24."""
_CHUNK = 1 << 20
"""Values quantized at a time on the CPU: what lies between input and codes stays in cache; fewer, and the calls cost more."""


def quantize_per_channel(weight: torch.Tensor, group: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [N, K] -> (codes int8 [N, K], scale float32 [N, 1]); rotated first by groups of inputs, if any (`numerics.rotation`)."""
    return _quantize(weight, group)


def quantize_per_token(x: torch.Tensor, group: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [..., K] -> (codes int8 [..., K], scale float32 [..., 1]); |codes * scale - x| <= scale / 2. `group` as above."""
    return _quantize(x, group)


def _quantize(x: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    *rows, width = x.shape
    tokens = x.reshape(-1, width)
    codes = torch.empty(tokens.shape, dtype=torch.int8, device=x.device)
    scale = torch.empty(len(tokens), 1, device=x.device)
    step = max(1, _CHUNK // max(1, width)) if x.device.type == "cpu" else len(tokens)
    # one buffer for all parts: fresh memory costs as much as the arithmetic
    values = torch.empty(min(step, len(tokens)), width, device=x.device)
    scratch = torch.empty_like(values) if group else values
    for start in range(0, len(tokens), max(1, step)):
        part = tokens[start : start + step]
        quotients = values[: len(part)].copy_(part)
        if group:
            rotation.rotate_(quotients, group, scratch[: len(part)])
        amax = torch.maximum(quotients.amax(-1, keepdim=True), -quotients.amin(-1, keepdim=True))
        # by a tensor: CUDA turns division by a number into a product with its reciprocal, which rounds twice
        steps = amax / torch.full_like(amax, CODE_MAX)
        scale[start : start + step] = torch.where(steps == 0, torch.ones_like(steps), steps)
        quotients.div_(scale[start : start + step]).round_().clamp_(-CODE_MAX, CODE_MAX)
        codes[start : start + step] = quotients
    return codes.view(x.shape), scale.view(*rows, 1)


def dequantize(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 [..., K], float32 [..., 1] -> float32 [..., K]."""
    return codes.float() * scale


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """int8 [M, K] times int8 [N, K] transposed -> int32 [M, N], exact on every device.

    By float32 products of at most EXACT_WIDTH columns, whose partial sums are integers that float32 represents.
    `torch._int_mm` is no reference: some CPUs saturate in it silently.
    """
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], EXACT_WIDTH):
        columns = slice(start, start + EXACT_WIDTH)
        total += (a[:, columns].float() @ b[:, columns].float().T).to(torch.int32)
    return total
