"""One transformer of a checkpoint by official names, read a tensor or a few rows at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch

from ideogram_q8.sources.encodings import Encoding, Fp8, Int8, Nf4
from ideogram_q8.sources.layouts import Resolved

_FORMATS = {"F8_E4M3": "fp8", "NF4": "nf4", "INT8": "int8", "BF16": "bf16", "F16": "f16", "F32": "f32"}
"""What people call an encoding."""
_CHUNK = 1 << 20
"""Elements decoded at a time, so that what is between file and result stays in the processor's cache."""


class BranchReader:
    """One transformer. Nothing that is read is kept, and several threads may read at once.

    Attributes:
        files: its weight files, in order; each file's path is absolute.
        layout: for people, as in "F8_E4M3, fused".
    """

    def __init__(self, files: tuple[Path, ...], resolved: Resolved, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`resolved` is without problems, for the tensors of `shapes`."""
        self.files, self.layout = files, resolved.kinds
        self._parts, self._shapes = resolved.parts, dict(shapes)

    @property
    def path(self) -> Path:
        """The weight file, or of several the folder that they are in."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    @property
    def names(self) -> tuple[str, ...]:
        """The official base tensors, without scales."""
        return tuple(self._shapes)

    @property
    def formats(self) -> Counter[str]:
        """Values of the matrices by the formats that they are stored in: "fp8", "nf4", "int8", "bf16", "f16", "f32"."""
        found: Counter[str] = Counter()
        for part in (part for parts in self._parts.values() for part in parts if len(part.shape) > 1):
            found[_FORMATS[part.kind]] += math.prod(part.shape)
        return found

    def scheme(self, linear: str) -> str:
        """What a Linear's weight is loaded as: "fp8", "nf4", "w8a8", "w8a16" or "bf16"."""
        parts = self._parts[f"{linear}.weight"]
        if _all_int8(parts):
            return "w8a16" if parts[0].weight_only else "w8a8"
        return "fp8" if _all_fp8(parts) else "nf4" if _all_nf4(parts) else "bf16"

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def read(self, name: str) -> torch.Tensor:
        """The whole tensor, bfloat16. At most it and a few MB are in memory.

        FP8 is multiplied out as the official code does (`numerics.fp8.dequantize_per_row`), NF4 as bitsandbytes does
        (`numerics.nf4.dequantize`), INT8 in float32, rotated back and rounded once;
        float16 and float32 are rounded once; split qkv are put together.

        Raises:
            SourceError: the file cannot be read, or holds NaN, infinities or impossible scales; the message names the tensor.
        """
        return self.read_rows(name, 0, self._shapes[name][0])

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop of `read(name)` (elements, of a vector). Raises SourceError as `read` does."""
        shape = self._shapes[name]
        if not 0 <= start <= stop <= shape[0]:
            raise ValueError(f"rows {start} to {stop} of {name}, which has {shape[0]}")
        found = torch.empty(stop - start, *shape[1:], dtype=torch.bfloat16)
        step = max(1, _CHUNK // math.prod(shape[1:]))
        first = 0  # row of the tensor where the part begins
        for part in self._parts[name]:
            last = first + part.shape[0]
            for begin in range(max(start, first), min(stop, last), step):
                end = min(begin + step, stop, last)
                rows = part.rows(begin - first, end - first)
                if (begin, end) == (start, stop):
                    return rows
                found[begin - start : end - start] = rows
            first = last
        return found

    def read_fp8(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(float8_e4m3fn [N, K], scale float32 [N]) of a weight that is stored so, else None.

        A scale that is stored once for the whole weight is repeated for its rows.

        Raises:
            SourceError: as `read` does.
        """
        parts = self._parts[name]
        if not _all_fp8(parts):
            return None
        codes, scales = zip(*(part.stored_rows(0, part.shape[0]) for part in parts), strict=True)
        return (codes[0], scales[0]) if len(parts) == 1 else (torch.cat(codes), torch.cat(scales))

    def read_int8(self, name: str) -> tuple[torch.Tensor, torch.Tensor, int, bool] | None:
        """(codes int8 [N, K], scale float32 [N, 1], rotation, weight_only; see `Int8`) of a weight that is stored so, else None.

        Raises:
            SourceError: as `read` does.
        """
        parts = self._parts[name]
        if not _all_int8(parts):
            return None
        codes, scales = zip(*(part.stored_rows(0, part.shape[0]) for part in parts), strict=True)
        first = parts[0]
        return torch.cat(codes), torch.cat(scales), first.rotation, first.weight_only

    def read_nf4(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(codes uint8 [N, K / 2], scales float32 [N, K / block]) of a weight that is stored so with rows of whole blocks, else None.

        Raises:
            SourceError: as `read` does.
        """
        parts = self._parts[name]
        if not _all_nf4(parts):
            return None
        packed, absmax = zip(*(part.stored_rows(0, part.shape[0]) for part in parts), strict=True)
        return (packed[0], absmax[0]) if len(parts) == 1 else (torch.cat(packed), torch.cat(absmax))


def _all_fp8(parts: tuple[Encoding, ...]) -> TypeGuard[tuple[Fp8, ...]]:
    return all(isinstance(part, Fp8) for part in parts)


def _all_nf4(parts: tuple[Encoding, ...]) -> TypeGuard[tuple[Nf4, ...]]:
    """Whether all parts are NF4 whose rows are whole blocks of one size."""
    return (
        all(isinstance(part, Nf4) and part.in_rows for part in parts)
        and len({getattr(part, "block", 0) for part in parts}) == 1
    )


def _all_int8(parts: tuple[Encoding, ...]) -> TypeGuard[tuple[Int8, ...]]:
    """Whether all parts are int8 of one rotation, and all for quantized activations or none."""
    kinds = {(part.rotation, part.weight_only) if isinstance(part, Int8) else None for part in parts}
    return len(kinds) == 1 and None not in kinds
