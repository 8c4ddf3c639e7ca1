"""Launches the programs that go over rows of activations, and over latents (`programs.rows`)."""

from __future__ import annotations

import torch

from ideogram_q8.numerics.rotation import stages
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

LARGEST_WIDTH = 16384
"""Longest row that a program holds in registers."""
HEAD_WARPS = 1
"""Of a program that goes over a token's heads: a head of 256 values is 8 for each thread."""

STEP_BLOCK, STEP_WARPS = 1024, 4
"""Latents that a program moves, and its warps."""


def row_block(width: int) -> int:
    """The power of two that holds a row."""
    return 1 << max(0, width - 1).bit_length()


def row_warps(block: int) -> int:
    """Warps that share a row of `block` values, at most 32 values a thread."""
    return 8 if block <= 8192 else 16


def quantize(x: torch.Tensor, before: Prologue) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [M, K], [M, 2 K] for SwiGLU, K <= LARGEST_WIDTH -> (codes int8 [M, K], scale float32 [M, 1]) of `before.apply(x)`.

    In one pass over the rows, whatever is done to them first.
    """
    from ideogram_q8.runtime.kernels.programs import rows, w8a8

    x = x.contiguous()
    width = x.shape[1] // (2 if before.step == "swiglu" else 1)
    codes = torch.empty(len(x), width, dtype=torch.int8, device=x.device)
    scale = torch.empty(len(x), 1, dtype=torch.float32, device=x.device)
    block = row_block(width)
    how = {"BLOCK": block, "num_warps": row_warps(block), "enable_fp_fusion": False}
    turn = {"GROUP": before.rotation or 1, "STAGES": stages(before.rotation) if before.rotation else 0}
    if before.step == "rms_norm":
        assert before.factor is not None
        rows.normalize_and_quantize[(len(x),)](x, before.factor.contiguous(), codes, scale, width, before.eps, **how, **turn)
    elif before.step == "swiglu":
        rows.gate_and_quantize[(len(x),)](x, codes, scale, width, **how, **turn)
    elif before.rotation:
        rows.rotate_and_quantize[(len(x),)](x, codes, scale, width, **how, **turn)
    else:
        w8a8.quantize_rows[(len(x),)](x, codes, scale, width, **how)
    return codes, scale


def add_normalized(residual: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, eps: float) -> None:
    """`fused.add_normalized` for contiguous float [M, K], K <= LARGEST_WIDTH."""
    from ideogram_q8.runtime.kernels.programs import rows

    width = x.shape[1]
    block = row_block(width)
    rows.add_normalized[(len(x),)](
        residual, x, factor.contiguous(), width, eps, BLOCK=block, num_warps=row_warps(block), enable_fp_fusion=False
    )


def place_heads(x: torch.Tensor, factor: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float) -> None:
    """`fused.place_heads` for float [tokens, heads, width], the heads of a token contiguous; cos and sin [tokens, width]."""
    from ideogram_q8.runtime.kernels.programs import rows

    tokens, heads, width = x.shape
    rows.place_heads[(tokens,)](
        x,
        factor.contiguous(),
        cos,
        sin,
        x.stride(0),
        width // 2,
        eps,
        HEADS=heads,
        HALF=row_block(width // 2),
        num_warps=HEAD_WARPS,
        enable_fp_fusion=False,
    )


def guided_step(
    latents: torch.Tensor, unconditional: torch.Tensor, conditional: torch.Tensor, guidance: float, step: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`fused.guided_step` for tensors of one shape and dtype."""
    from ideogram_q8.runtime.kernels.programs import rows

    latents = latents.contiguous()
    velocity, moved = torch.empty_like(latents), torch.empty_like(latents)
    count = latents.numel()
    rows.guided_step[(-(-count // STEP_BLOCK),)](
        latents,
        unconditional.contiguous(),
        conditional.contiguous(),
        velocity,
        moved,
        count,
        float(guidance),
        float(step),
        BLOCK=STEP_BLOCK,
        num_warps=STEP_WARPS,
        enable_fp_fusion=False,
    )
    return velocity, moved
