"""Launches attention with int8 scores: a program that makes codes of queries and keys, and one that goes over the keys.

The tiles are the largest whose machine code spills nothing and fits the card's shared memory (tests/runtime/kernels/test_aot.py).
No card has timed them yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ideogram_q8.numerics import attention
from ideogram_q8.numerics.rotation import stages

WIDTHS = (32, 64, 128, 256)
"""Of a head."""
HALF_SUMS = frozenset({(8, 6), (8, 9), (12, 0)})
"""Compute capabilities of GeForce cards, whose tensor cores add in float16 at twice the rate of float32."""
ROWS, ROW_WARPS = 8, 4
"""Tokens of a head that a program makes codes of, and its warps."""


@dataclass(frozen=True)
class AttentionTiles:
    """Queries that one thread block takes, keys that it takes at a time, its warps, and the depth of its load pipeline."""

    queries: int
    keys: int
    warps: int
    stages: int


CONFIGURATIONS: Mapping[int, AttentionTiles] = {
    8: AttentionTiles(64, 64, warps=8, stages=2),
    9: AttentionTiles(64, 64, warps=8, stages=3),
}
"""By major compute capability; later ones have the last, but GeForce cards the first: they have no more shared memory."""


def tiles_for(capability: tuple[int, int]) -> AttentionTiles:
    """Tiles for a compute capability."""
    return CONFIGURATIONS[8 if capability in HALF_SUMS else min(capability[0], max(CONFIGURATIONS))]


def refuses(capability: tuple[int, int] | None, width: int) -> str | None:
    """Why `attend` cannot compute this, or None."""
    if capability is None:
        return "needs CUDA"
    if capability < (8, 0):
        return f"needs compute capability 8.0, got {capability[0]}.{capability[1]}"
    return None if width in WIDTHS else f"takes heads of {', '.join(map(str, WIDTHS))} values, got {width}"


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, half_sums: bool | None = None) -> torch.Tensor:
    """`numerics.attention.attend` for heads of WIDTHS values, each contiguous.

    Args:
        half_sums: whether products of weights and values are first summed in float16; by default where that is faster.
    """
    capability = torch.cuda.get_device_capability(q.device) if q.is_cuda else (8, 6)  # the interpreter
    tiles = tiles_for(capability)
    factor = attention.value_factor(v)
    values = attention.half_values(v, factor)
    queries, query_scale = quantize(q, None, attention.score_factor(q.shape[-1]))
    keys, key_scale = quantize(k, attention.key_mean(k).contiguous(), 1.0)
    batch, heads, tokens, width = q.shape
    out = q.new_empty(batch, tokens, heads, width)
    from ideogram_q8.runtime.kernels.programs import attention as programs

    programs.attend[-(-tokens // tiles.queries), batch * heads](
        queries,
        query_scale,
        keys,
        key_scale,
        values,
        factor,
        out,
        tokens,
        k.shape[2],
        heads,
        WIDTH=width,
        BM=tiles.queries,
        BN=tiles.keys,
        EVEN=k.shape[2] % tiles.keys == 0,
        HALF_SUMS=capability in HALF_SUMS if half_sums is None else half_sums,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out.transpose(1, 2)


def quantize(x: torch.Tensor, mean: torch.Tensor | None, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [batch, heads, tokens, width] -> (codes int8, contiguous; scale float32 [.., tokens, 1]) of the rotated rows.

    Args:
        mean: float32 [batch, heads, 1, width], contiguous, taken away first.
        factor: of the scales.
    """
    from ideogram_q8.runtime.kernels.programs import attention as programs

    batch, heads, tokens, width = x.shape
    group = attention.rotation_group(width)
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scale = torch.empty(batch, heads, tokens, 1, device=x.device)
    programs.quantize_heads[-(-tokens // ROWS), batch * heads](
        x,
        scale if mean is None else mean,
        codes,
        scale,
        tokens,
        heads,
        *x.stride()[:3],
        factor,
        ROWS=ROWS,
        WIDTH=width,
        GROUP=group,
        STAGES=stages(group),
        HAS_MEAN=mean is not None,
        num_warps=ROW_WARPS,
        enable_fp_fusion=False,
    )
    return codes, scale
