"""The W8A8 products of a transformer's block as they run, with what comes before each: for choosing, measuring and telling."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ideogram_q8.model.architecture import TransformerConfig
from ideogram_q8.runtime.kernels.choosing.choice import Choice, placed
from ideogram_q8.runtime.kernels.linear.int8 import Backend, Problem, choose

_BLOCK = (
    ("attention.qkv", "rms_norm", "hidden", "qkv"),
    ("attention.o", "", "hidden", "hidden"),
    ("feed_forward.w1, w3", "rms_norm", "hidden", "gates"),
    ("feed_forward.w2", "swiglu", "ffn", "hidden"),
)
"""Linears that are one product, the prologue's step, inputs and outputs."""


@dataclass(frozen=True)
class BlockProduct:
    """One product of a block: its Linears by their official names, and what is computed."""

    name: str
    problem: Problem

    def choose(self) -> Choice[Backend]:
        """What computes it on its device; tries back ends where that was not done yet."""
        return choose(self.problem)


def block_products(
    config: TransformerConfig, rows: int, device: str | torch.device, dtype: torch.dtype, rotation: int = 0
) -> tuple[BlockProduct, ...]:
    """The products of a block on `rows` tokens, each Linear rotated by groups of `rotation` inputs (0: not)."""
    place = placed(device)
    hidden, ffn = config.hidden_size, config.intermediate_size
    sizes = {"hidden": hidden, "ffn": ffn, "qkv": 3 * hidden, "gates": 2 * ffn}
    return tuple(
        BlockProduct(name, Problem(*place, dtype, rows, sizes[inputs], sizes[outputs], step, rotation))
        for name, step, inputs, outputs in _BLOCK
    )
