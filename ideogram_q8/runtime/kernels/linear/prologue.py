"""What is done to rows of activations just before they are quantized: a norm with its modulation, SwiGLU, a rotation.

`Prologue.apply` is the definition, in plain torch and in the dtype of the activations. A back end that folds it into its quantizer
rounds where the definition rounds, so that the codes are those of the rows quantized after `apply`:

    equal to the bit    where the row's mean square is exact in float32, and for SwiGLU where exp is
    otherwise           that mean and exp are off by a few float32 steps, which may turn a value that lies between two of the activations'
                        dtype to the other one: row scales then differ by one step of that dtype, codes by at most one
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from ideogram_q8.numerics import rotation

STEPS = ("", "rms_norm", "swiglu")
"""Names that `Prologue.step` may have."""


@dataclass(frozen=True)
class Prologue:
    """A step, then a rotation by groups of `rotation` inputs (0: none).

    "rms_norm" divides each row by the root of its mean square plus `eps` and multiplies it by `factor` [K], which holds the norm's weight
    and the modulation in the dtype of the rows. "swiglu" makes silu(gate) * up [K] of [gate | up] [2 K].
    """

    step: str = ""
    factor: torch.Tensor | None = None
    eps: float = 0.0
    rotation: int = 0

    @property
    def kind(self) -> tuple[str, int]:
        """What tells back ends apart: the step and the rotation."""
        return self.step, self.rotation

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Floating [..., K], [..., 2 K] for SwiGLU -> [..., K] in the same dtype."""
        if self.step == "rms_norm":
            assert self.factor is not None
            x = functional.rms_norm(x, self.factor.shape, self.factor, self.eps)
        elif self.step == "swiglu":
            x = swiglu(*x.chunk(2, -1))
        return rotation.rotate(x, self.rotation) if self.rotation else x


NOTHING = Prologue()


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, rounded to their dtype after silu and after the product."""
    return functional.silu(gate).mul_(up)
