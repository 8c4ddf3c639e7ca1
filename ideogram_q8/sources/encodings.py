"""How the values of one weight are stored, and how they are read as bfloat16 rows: plain, FP8 or INT8 with scales, NF4.

Values are checked when they are read, because a header cannot tell: a NaN in a file of 9 GB should be found by the job that meets
it, named with its tensor, and not by its pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.numerics import fp8, int8, nf4, rotation

_NAN_CODE = 0x7F
_CHUNK = 1 << 20
"""Elements that are looked at together: they stay in the processor's cache."""


class Encoding(Protocol):
    """A stored matrix (or vector) and its decoding."""

    @property
    def kind(self) -> str:
        """For people: "F8_E4M3", "BF16", "NF4", ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded tensor."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """bfloat16 [stop - start, ...]. Raises SourceError: unreadable, or values that no weight can have."""


@dataclass(frozen=True)
class Plain:
    """BF16, F16 or F32; the latter two are rounded to bfloat16 once, to the nearest even."""

    stored: StoredTensor

    @property
    def kind(self) -> str:
        return self.stored.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    def rows(self, start: int, stop: int) -> torch.Tensor:
        width = math.prod(self.shape[1:])
        values = self.stored.read(start * width, stop * width)
        _require_finite(values, self.stored, "NaN or infinite")
        rounded = values.to(torch.bfloat16)
        if values.dtype == torch.float32:
            _require_finite(rounded, self.stored, "beyond bfloat16's range")
        return rounded.view(stop - start, *self.shape[1:])


@dataclass(frozen=True)
class Fp8:
    """e4m3 codes [N, K] with float32 scales: one a row, as the official files have them, or one for all, as ComfyUI's fp8_scaled.

    Both are multiplied as their own code does for bfloat16 activations: scale rounded, product rounded (`numerics.fp8`;
    comfy-kitchen 0.2.31, `dequantize_per_tensor_fp8`).
    """

    codes: StoredTensor
    scale: StoredTensor

    @property
    def kind(self) -> str:
        return self.codes.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return fp8.dequantize_per_row(*self.stored_rows(start, stop))

    def stored_rows(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(float8_e4m3fn [n, K], scale float32 [n]). Raises SourceError as `rows` does."""
        width = self.shape[1]
        codes = self.codes.read(start * width, stop * width)
        for piece in codes.view(torch.uint8).split(_CHUNK):
            if (piece & _NAN_CODE).max() == _NAN_CODE:
                raise _bad_values(self.codes, int(((piece & _NAN_CODE) == _NAN_CODE).sum()), "NaN")
        return codes.view(stop - start, width), _row_scales(self.scale, start, stop, fp8.E4M3_MAX)


@dataclass(frozen=True)
class Int8:
    """int8 codes [N, K] with float32 scales, one a row or one for all: ComfyUI's `int8_tensorwise`, which is ours (`numerics.int8`).

    With `rotation` (ComfyUI's `convrot`), what is stored is the weight after `numerics.rotation` in groups of so many inputs. With
    `weight_only`, activations are not to be quantized.
    """

    codes: StoredTensor
    scale: StoredTensor
    rotation: int
    weight_only: bool

    @property
    def kind(self) -> str:
        return "INT8"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def rows(self, start: int, stop: int) -> torch.Tensor:
        codes, scale = self.stored_rows(start, stop)
        values = int8.dequantize(codes, scale)
        return (rotation.rotate(values, self.rotation) if self.rotation else values).to(torch.bfloat16)

    def stored_rows(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(int8 [n, K], scale float32 [n, 1]). Raises SourceError as `rows` does."""
        width = self.shape[1]
        codes = self.codes.read(start * width, stop * width).view(stop - start, width)
        return codes, _row_scales(self.scale, start, stop, int8.CODE_MAX)[:, None]


@dataclass(frozen=True)
class Nf4:
    """bitsandbytes' NF4: two codes a byte, float32 scales by blocks of the flattened tensor (`numerics.nf4`).

    The stored table of levels must be NF4's: bitsandbytes' own kernels use theirs, whatever the file says.
    """

    packed: StoredTensor
    absmax: StoredTensor
    levels: StoredTensor
    block: int
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        return "NF4"

    @property
    def in_rows(self) -> bool:
        """Whether each row is whole blocks."""
        return math.prod(self.shape[1:]) % self.block == 0

    def rows(self, start: int, stop: int) -> torch.Tensor:
        width = math.prod(self.shape[1:])
        first = start * width // self.block
        packed, absmax = self._blocks(first, min(-(-stop * width // self.block), self.absmax.count))
        begin = first * self.block
        values = nf4.dequantize(packed, absmax, self.block)
        return values[start * width - begin : stop * width - begin].view(stop - start, *self.shape[1:])

    def stored_rows(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(uint8 [n, K / 2], float32 [n, K / block]) of rows that are whole blocks. Raises SourceError as `rows` does."""
        blocks = self.shape[1] // self.block
        packed, absmax = self._blocks(start * blocks, stop * blocks)
        return packed.view(stop - start, -1), absmax.view(stop - start, -1)

    def _blocks(self, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of blocks first to last."""
        if not torch.equal(self.levels.read(), torch.tensor(nf4.LEVELS)):
            raise SourceError(f"{self.levels} is not NF4's table of levels; download the file again")
        absmax = self.absmax.read(first, last)
        wrong = ~((absmax >= 0) & absmax.to(torch.bfloat16).isfinite())
        if wrong.any():
            value = absmax[wrong][0].item()
            raise SourceError(f"{self.absmax} holds {value:g}, expected numbers from zero up; download the file again")
        return self.packed.read(first * self.block // 2, min(last * self.block // 2, self.packed.count)), absmax


def _row_scales(stored: StoredTensor, start: int, stop: int, largest_code: float) -> torch.Tensor:
    """float32 [stop - start] from one scale a row, or one for all. Raises SourceError: one is no positive number."""
    shared = stored.count == 1
    scale = stored.read() if shared else stored.read(start, stop)
    wrong = ~((scale > 0) & (scale.to(torch.bfloat16) * largest_code).isfinite())  # a NaN is not above zero
    if wrong.any():
        row = int(wrong.nonzero()[0])
        where = "" if shared else f" in row {start + row}"
        raise SourceError(f"{stored} is {scale[row].item():g}{where}, expected a positive number; download the file again")
    return scale.expand(stop - start).contiguous()


def _require_finite(values: torch.Tensor, stored: StoredTensor, what: str) -> None:
    for piece in values.split(_CHUNK):
        low, high = piece.aminmax()  # a NaN makes both NaN
        if not (low.isfinite() and high.isfinite()):
            raise _bad_values(stored, int((~piece.isfinite()).sum()), what)


def _bad_values(stored: StoredTensor, count: int, what: str) -> SourceError:
    return SourceError(f"{stored} has at least {count} values that are {what}; download the file again, or mend its maker")
