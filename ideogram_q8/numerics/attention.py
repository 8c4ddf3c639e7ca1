"""Attention whose scores are integer products: softmax(q k^T / sqrt(width)) v with q and k in int8, in plain torch.

    k'     = k - mean of k over the tokens      adds the same number to all scores of a query, which softmax does not see
    q, k'  -> rotated (`numerics.rotation`)     the same orthonormal matrix on both leaves q k^T as it is; outliers spread
    codes  = round(row / (amax / 127))          each token of each head has its own scale
    s      = (codes_q codes_k^T) scale_q scale_k log2(e) / sqrt(width)      the sum is exact in int32
    p      = 2^(s - max of the row), rounded to float16; its sum is of float32 before the rounding
    out    = p v' / sum / factor, with v' = float16(v factor) and a power of two for each channel that brings |v'| below 1

Smoothing the keys, int8 for q and k by token and float16 for p and v are SageAttention's (arXiv 2410.02367); rotating both is QuaRot's
(arXiv 2404.00456) and comfy-kitchen's; one scale a channel of v is SageAttention2's (arXiv 2411.10958).

Weights and values stay in float16 because of what int8 would cost: output SNR in dB on made-up heads of Ideogram 4's shape
(`evaluation.attention`, whose page has all of them), with weights in int8 by 64 keys and values by channel:

    even attention 36.3 -> 32.9    with outlier channels in q and k 39.6 -> 37.3    with outlier tokens in v too 41.4 -> 31.4

and float16 sums run at twice bfloat16's rate on the GeForce cards that this is for. Without the rotation, outlier channels take 12 dB.
"""

from __future__ import annotations

import math

import torch

from ideogram_q8.numerics import int8
from ideogram_q8.numerics.rotation import GROUP

SCORES = 1 << 20
"""Scores of a head that are there at once: queries are taken so many at a time."""
_EXPONENTS = -100, 126
"""Of a channel's largest: its factor is a normal float32 number then, also times a sum of weights."""


def rotation_group(width: int) -> int:
    """The largest power of 4 up to 256 that divides a head's width; 0 where there is none."""
    group = GROUP
    while group > 1 and width % group:
        group //= 4
    return group if group > 1 else 0


def quantize_queries(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Floating [..., tokens, width] -> (codes int8, scale float32 [..., tokens, 1] times log2(e) / sqrt(width))."""
    codes, scale = int8.quantize_per_token(q, rotation_group(q.shape[-1]))
    return codes, scale * score_factor(q.shape[-1])


def quantize_keys(k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Floating [..., tokens, width] -> (codes int8, scale float32 [..., tokens, 1]) of the keys less their mean."""
    return int8.quantize_per_token(k.float() - key_mean(k), rotation_group(k.shape[-1]))


def key_mean(k: torch.Tensor) -> torch.Tensor:
    """Over the tokens: floating [..., tokens, width] -> float32 [..., 1, width]."""
    return k.mean(-2, keepdim=True, dtype=torch.float32)


def score_factor(width: int) -> float:
    """log2(e) / sqrt(width)."""
    return math.log2(math.e) / math.sqrt(width)


def value_factor(v: torch.Tensor) -> torch.Tensor:
    """float32 [..., 1, width], powers of two: times it, the largest of a channel of [..., tokens, width] is at least 1/2 and below 1."""
    amax = torch.maximum(v.amax(-2, keepdim=True), -v.amin(-2, keepdim=True)).float()
    exponent = torch.frexp(amax)[1].clamp(_EXPONENTS[0], _EXPONENTS[1])
    return torch.ldexp(torch.ones_like(amax), -exponent)


def half_values(v: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """v * factor as float16: exact for bfloat16 and float16 down to 2^-14 of a channel's largest. Contiguous [..., tokens, width]."""
    return torch.mul(v, factor, out=torch.empty(v.shape, dtype=torch.float16, device=v.device))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Floating [batch, heads, tokens, width] of at most 1024 values a head -> like q; k and v may have other tokens than q.

    SCORES scores at a time. In memory the result's heads of a token lie side by side.
    """
    batch, heads, tokens, width = q.shape
    out = q.new_empty(batch, tokens, heads, width).transpose(1, 2)
    step = heads_at_once(tokens, k.shape[2])
    for i in range(batch):
        for start in range(0, heads, step):
            part = slice(start, start + step)
            _attend(q[i, part], k[i, part], v[i, part], out[i, part])
    return out


def heads_at_once(tokens: int, keys: int) -> int:
    """How many heads' scores are there together; of one, if a head has more than SCORES."""
    return max(1, SCORES // max(1, tokens * keys))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> None:
    """[heads, tokens, width] each. Sums of codes are by float32 products, which are exact for at most EXACT_WIDTH terms."""
    heads, tokens, width = q.shape
    assert width <= int8.EXACT_WIDTH
    queries, query_scale = quantize_queries(q)
    keys, key_scale = quantize_keys(k)
    factor = value_factor(v)
    values = half_values(v, factor).float()
    across, row = keys.float().mT, key_scale.mT
    step = max(1, SCORES // max(1, heads * k.shape[1]))
    for start in range(0, tokens, step):
        part = slice(start, start + step)
        scores = (queries[:, part].float() @ across).mul_(query_scale[:, part]).mul_(row)
        weights = scores.sub_(scores.amax(-1, keepdim=True)).exp2_()
        total = weights.sum(-1, keepdim=True)
        out[:, part] = (weights.half().float() @ values).div_(total).div_(factor)
