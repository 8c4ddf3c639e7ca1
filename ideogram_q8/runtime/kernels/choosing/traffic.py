"""What a block moves through memory between its products, counted from shapes: bytes read and written, and launches.

Each pass reads its inputs and writes its outputs once. comfy-kitchen 0.2.40 folds a norm and SwiGLU into its quantizer of rotated rows
only: before others it runs the norm, or silu and the product with `up`, by themselves, and reads their result to quantize it. Triton's
programs (`programs.rows`) fold whatever comes before.
"""

from __future__ import annotations

from dataclasses import dataclass

from ideogram_q8.model.architecture import TransformerConfig

KITCHEN, TRITON = "comfy-kitchen", "Triton"
"""The back ends whose passes are known."""


@dataclass(frozen=True)
class Traffic:
    """Bytes read and written, and launches."""

    moved: int
    launches: int

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.moved + other.moved, self.launches + other.launches)


def before_product(backend: str, step: str, rotation: int, values: int, item: int) -> Traffic | None:
    """From what a `Prologue` reads to int8 codes of `values` values; None of back ends that are not known.

    Args:
        item: bytes of a value of the activations.
    """
    if backend not in (KITCHEN, TRITON):
        return None
    folded = backend == TRITON or rotation > 0
    read = 2 * item if step == "swiglu" else item
    if folded or not step:
        return Traffic(values * (read + 1), 1)
    quantizing = Traffic(values * (item + 1), 1)
    if step == "rms_norm":
        return Traffic(values * 2 * item, 1) + quantizing
    return Traffic(values * 2 * item, 1) + Traffic(values * 3 * item, 1) + quantizing  # silu, then the product


def of_a_block(backend: str, rotation: int, config: TransformerConfig, tokens: int, item: int = 2) -> Traffic | None:
    """All passes of a W8A8 block on `tokens` tokens that are neither products nor attention, norms and positions in Triton."""
    hidden, gates = tokens * config.hidden_size, tokens * config.intermediate_size
    positions, residuals = Traffic(2 * 2 * hidden * item, 2), Traffic(2 * 3 * hidden * item, 2)
    total = positions + residuals
    for step, values in (("rms_norm", hidden), ("", hidden), ("rms_norm", hidden), ("swiglu", gates)):
        found = before_product(backend, step, rotation, values, item)
        if found is None:
            return None
        total += found
    return total
