"""Public figures of cards, to carry a measurement from one to another. Rates are dense, without sparsity.

NVIDIA Ampere GA102 GPU Architecture, whitepaper V2.0, appendices A and C (RTX 3090, RTX A6000); NVIDIA Ada GPU Architecture,
whitepaper V2.1, appendix A (RTX 4090); data sheets of A100, H100 and H200. A GeForce adds in float32 at half the rate of its tensor
cores: bfloat16 does 71 TFLOPS on an RTX 3090, float16 with float16 sums 142, int8 284 TOPS. On other cards float16 sums gain nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """`float_rate` of bfloat16 with float32 sums and `int8_rate` with int32 sums in operations a second; bytes a second of its memory.

    `half_rate` of float16 with float16 sums. `device` begins the name by which CUDA knows it.
    """

    name: str
    device: str
    float_rate: float
    int8_rate: float
    bytes_rate: float
    half_rate: float

    def rate(self, arithmetic: str) -> float:
        """Operations a second of an `Arithmetic`; attention with int8 scores sums its values in float16 (`kernels.triton_attention`)."""
        match arithmetic:
            case "float":
                return self.float_rate
            case "int8":
                return self.int8_rate
            case _:
                return in_turn(self.int8_rate, self.half_rate)


CARDS: Mapping[str, Card] = {
    "rtx-3090": Card("RTX 3090", "NVIDIA GeForce RTX 3090", 71e12, 284e12, 936e9, 142e12),
    "rtx-4090": Card("RTX 4090", "NVIDIA GeForce RTX 4090", 165.2e12, 660.6e12, 1008e9, 330.3e12),
    "rtx-a6000": Card("RTX A6000", "NVIDIA RTX A6000", 154.8e12, 309.7e12, 768e9, 154.8e12),
    "a100": Card("A100 SXM 80 GB", "NVIDIA A100-SXM4-80GB", 312e12, 624e12, 2039e9, 312e12),
    "h100": Card("H100 SXM", "NVIDIA H100 80GB HBM3", 989.4e12, 1978.9e12, 3350e9, 989.4e12),
    "h200": Card("H200", "NVIDIA H200", 989.4e12, 1978.9e12, 4800e9, 989.4e12),
}


def in_turn(rate: float, other: float) -> float:
    """Operations a second where half of them are done at each of two rates."""
    return 2 / (1 / rate + 1 / other)


def known(device: str) -> Card | None:
    """The card of a CUDA device's name; None for any other."""
    return next((card for card in CARDS.values() if device == card.device), None)
