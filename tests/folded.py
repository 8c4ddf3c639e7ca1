"""Weights read through a folding, for tests of the float model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.recipes.folding import Folding
from ideogram_q8.sources import BranchReader


@dataclass(frozen=True)
class Folded:
    """A network whose tensors are read through a folding; nothing is packed."""

    reader: BranchReader
    folding: Folding

    @property
    def files(self) -> tuple[Path, ...]:
        return self.reader.files

    @property
    def names(self) -> tuple[str, ...]:
        return self.reader.names

    def read(self, name: str) -> torch.Tensor:
        return self.folding.apply(name, self.reader.read(name))

    def packed(self, name: str) -> None:
        return None
