"""A random Ideogram 4 of any depth, made on the device in seconds: the same model in every number format.

Rows of every weight are drawn from a pool of some hundred rows for each width, so that only the pool has to be quantized: encoding
all of a Q4_K model would take an hour on a CPU. What is drawn is drawn by name, so all formats hold the same model. The pool is
e4m3 codes times scales, as the official weights are; the other formats are made from those.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight, Nf4Weight, Packed
from ideogram_q8.model.architecture import Branch, Linear, TransformerConfig, linears, tensor_shapes
from ideogram_q8.numerics import fp8, ggml, int8, nf4

_VALUES = 1 << 21
"""Of a pool, about."""
_MOST_ROWS, _FEWEST_ROWS = 2048, 64
_FLOATS = ("bf16", "f16", "f32")
FP8, NF4 = "fp8", "nf4"


@dataclass(frozen=True)
class WeightForm:
    """How a weight is stored: a scheme of recipes, `fp8` or `nf4`, and the size of the groups of inputs that are rotated."""

    scheme: str
    rotation: int = 0


@dataclass(frozen=True)
class Pool:
    """Rows to draw from, on `device`; the same on every device."""

    seed: int
    device: torch.device
    dtype: torch.dtype

    @functools.cached_property
    def _made(self) -> dict[tuple[object, ...], Packed | torch.Tensor]:
        return {}

    def draw(self, name: str, rows: int, width: int, scheme: str, rotation: int = 0) -> Packed | torch.Tensor:
        """`rows` rows under a name: packed in a scheme of recipes or `fp8`, or a tensor [rows, width] in the pool's dtype."""
        key = (width, scheme if scheme not in _FLOATS else "float", rotation)
        if key not in self._made:
            self._made[key] = self._pack(width, scheme, rotation)
        pool = self._made[key]
        places = torch.randint(0, self.rows(width), (rows,), generator=self._generator(name)).to(self.device)
        return pool[places] if isinstance(pool, torch.Tensor) else _rows(pool, places)

    def values(self, name: str, shape: tuple[int, ...], centre: float = 0.0, spread: float = 0.02) -> torch.Tensor:
        """Normal numbers in the pool's dtype."""
        return (centre + spread * torch.randn(shape, generator=self._generator(name))).to(self.device, self.dtype)

    @property
    def held_bytes(self) -> int:
        """Bytes of all rows made so far."""
        tensors = [(made,) if isinstance(made, torch.Tensor) else vars(made).values() for made in self._made.values()]
        return sum(each.nbytes for parts in tensors for each in parts if isinstance(each, torch.Tensor))

    @staticmethod
    def rows(width: int) -> int:
        """How many there are."""
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _VALUES // width))

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))

    def _original(self, width: int) -> Fp8Weight:
        if (width, FP8, 0) not in self._made:
            values = torch.randn(self.rows(width), width, generator=self._generator(f"pool {width}")) / width**0.5
            codes, scale = fp8.quantize_per_row(values)
            self._made[width, FP8, 0] = Fp8Weight(codes.to(self.device), scale.to(self.device))
        found = self._made[width, FP8, 0]
        assert isinstance(found, Fp8Weight)
        return found

    def _pack(self, width: int, scheme: str, rotation: int) -> Packed | torch.Tensor:
        original = self._original(width)
        if scheme == FP8:
            return original
        values = fp8.dequantize_per_row(original.weight, original.scale)
        if scheme in _FLOATS:
            return values.to(self.dtype)
        if scheme == NF4:
            codes, absmax = nf4.quantize(values.flatten())
            return Nf4Weight(codes.view(len(values), -1), absmax.view(len(values), -1))
        if scheme in ggml.BLOCKS:
            data = ggml.encode(values.float().cpu(), ggml.BLOCKS[scheme]).to(self.device)
            return GgmlWeight(data, scheme, (len(data), width))
        return Int8Weight(*int8.quantize_per_channel(values.float(), rotation), rotation, weight_only=scheme == "w8a16")


def _rows(packed: Packed, places: torch.Tensor) -> Packed:
    match packed:
        case Int8Weight():
            return replace(packed, codes=packed.codes[places], scale=packed.scale[places])
        case GgmlWeight():
            return replace(packed, data=packed.data[places], shape=(len(places), packed.shape[1]))
        case Nf4Weight():
            return Nf4Weight(packed.data[places], packed.absmax[places])
        case Fp8Weight():
            # float8 tensors cannot be indexed on every device; their bytes can
            codes = packed.weight.view(torch.uint8)[places].view(packed.weight.dtype)
            return Fp8Weight(codes, packed.scale[places])


@dataclass(frozen=True)
class RandomBranch:
    """A branch of the random model as `networks.WeightReader`; `forms` has those of Linears that are packed."""

    pool: Pool
    config: TransformerConfig
    branch: Branch
    forms: Mapping[str, WeightForm]
    files: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tensor_shapes(self.config))

    def read(self, name: str) -> torch.Tensor:
        """A tensor by its official name, in the pool's dtype."""
        shape, own = tensor_shapes(self.config)[name], f"{self.branch}.{name}"
        linear = self._linears.get(name.removesuffix(".weight"))
        if linear is None or not name.endswith(".weight"):
            return self.pool.values(own, shape, *((1.0, 0.1) if "norm" in name else ()))
        found = self.pool.draw(own, shape[0], shape[1], "bf16")
        assert isinstance(found, torch.Tensor)
        return found

    def packed(self, name: str) -> Packed | None:
        """The weight of a Linear whose form is not one of floats."""
        form, linear = self.forms.get(name), self._linears[name]
        if form is None or form.scheme in _FLOATS:
            return None
        own = f"{self.branch}.{name}.weight"
        found = self.pool.draw(own, linear.out_features, linear.in_features, form.scheme, form.rotation)
        assert not isinstance(found, torch.Tensor)
        return found

    @functools.cached_property
    def _linears(self) -> dict[str, Linear]:
        return {linear.name: linear for linear in linears(self.config)}
