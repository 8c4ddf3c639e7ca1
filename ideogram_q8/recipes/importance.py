"""How much each input of a Linear matters to ggml's searches: its mean square over calibration's tokens, E[x^2].

The expected squared error of an output is the sum over inputs of E[x^2] times the squared error of the weight, where inputs are
uncorrelated: llama.cpp's importance matrix is the same quantity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.model.architecture import PartName
from ideogram_q8.recipes.statistics import Statistics, read


@dataclass(frozen=True, eq=False)
class Importance:
    """A stats file and its sha256, by which recipes name it."""

    statistics: Statistics
    sha256: str

    def of(self, part: PartName, linear: str) -> torch.Tensor:
        """float32 [K]: E[x^2] of each input; Linears with one input share it.

        Raises:
            ArtifactError: the Linear has no statistics, or a mean square that float32 cannot hold.
        """
        entry = self.statistics.get(part, linear)
        if entry is None:
            raise ArtifactError(f"statistics: {part} {linear} is missing; calibrate this model, or make the recipe again")
        values = entry.mean_square.float()
        if not values.isfinite().all():
            largest = entry.mean_square.max().item()
            raise ArtifactError(
                f"statistics: {part} {linear} has a mean square of {largest:.3g}; expected what float32 can hold"
            )
        return values

    def has(self, part: PartName, linear: str) -> bool:
        """Whether the Linear ever ran."""
        return self.statistics.get(part, linear) is not None


def read_importance(path: Path) -> Importance:
    """Reads a file that `calibrate` wrote. Raises ArtifactError as `calibration.statistics.read`."""
    return Importance(read(path), sha256_of(path))
