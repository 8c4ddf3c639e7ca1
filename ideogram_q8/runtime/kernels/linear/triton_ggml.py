"""Launches the programs that expand ggml's blocks on a GPU. Which program with which constants is data, read by the tests as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ideogram_q8.numerics.ggml import Block

WARPS = 4


@dataclass(frozen=True)
class BlockExpansion:
    """A program of `programs.blocks`, the blocks that each instance of it takes, and its constants."""

    program: str
    blocks: int
    constants: Mapping[str, object] = field(default_factory=dict)


def _legacy(kind: str, size: int, *, affine: bool = False, fifth: bool = False) -> BlockExpansion:
    return BlockExpansion("legacy", 64, {"KIND": kind, "BYTES": size, "AFFINE": affine, "FIFTH": fifth})


EXPANSIONS: Mapping[str, BlockExpansion] = {
    "q4_0": _legacy("q4_0", 18),
    "q4_1": _legacy("q4_1", 20, affine=True),
    "q5_0": _legacy("q5_0", 22, fifth=True),
    "q5_1": _legacy("q5_1", 24, affine=True, fifth=True),
    "q8_0": BlockExpansion("q8_0", 64),
    "q4_k": BlockExpansion("k_affine", 8, {"BYTES": 144, "FIFTH": False}),
    "q5_k": BlockExpansion("k_affine", 8, {"BYTES": 176, "FIFTH": True}),
    "q6_k": BlockExpansion("q6_k", 8),
    "iq4_nl": _legacy("iq4_nl", 18),
}
"""By type: what has no program here is expanded by plain torch."""


def expand(data: torch.Tensor, block: Block, out: torch.Tensor, scale: torch.Tensor | None = None) -> None:
    """Writes the values of uint8 [N, bytes] into `out` [N, K], all contiguous.

    Args:
        out: float16, bfloat16 or float32, rounded once from float32; or int8, the codes for `scale`.
        scale: float32 [N, 1], with int8 only.
    """
    from ideogram_q8.runtime.kernels.programs import blocks

    expansion = EXPANSIONS[block.name]
    count = data.numel() // block.type_size
    grid = (-(-count // expansion.blocks),)
    getattr(blocks, expansion.program)[grid](
        data,
        data.view(torch.float16),
        out,
        data if scale is None else scale,
        count,
        BLOCKS_PER_ROW=max(1, out.shape[1] // block.block_size),
        TO_CODES=scale is not None,
        BLOCKS=expansion.blocks,
        **expansion.constants,
        num_warps=WARPS,
        enable_fp_fusion=False,
    )
