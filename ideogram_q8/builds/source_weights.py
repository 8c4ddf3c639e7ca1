"""The weights of a source as other weights are handed out: packed where they are stored so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.builds.packed import Fp8Weight, Int8Weight, Nf4Weight, Packed
from ideogram_q8.sources import BranchReader


@dataclass(frozen=True)
class SourceWeights:
    """A source's branch or text encoder, its e4m3, int8 and NF4 Linears handed out as they are stored."""

    reader: BranchReader

    @property
    def files(self) -> tuple[Path, ...]:
        return self.reader.files

    @property
    def names(self) -> tuple[str, ...]:
        return self.reader.names

    def read(self, name: str) -> torch.Tensor:
        return self.reader.read(name)

    def packed(self, name: str) -> Packed | None:
        weight = f"{name}.weight"
        if (fp8 := self.reader.read_fp8(weight)) is not None:
            return Fp8Weight(*fp8)
        if (int8 := self.reader.read_int8(weight)) is not None:
            return Int8Weight(*int8)
        nf4 = self.reader.read_nf4(weight)
        return None if nf4 is None else Nf4Weight(*nf4)
