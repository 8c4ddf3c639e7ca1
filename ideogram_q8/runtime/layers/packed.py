"""Linears that hold packed weights as plain buffers and stand where diffusers has `nn.Linear`.

No tensor subclasses: buffers survive `.to(device)`, hooks and meta initialisation as they are. `.to(dtype)` would cast float8
weights and float32 scales like any floating tensor; `PackedLinear` keeps what is packed in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight, Nf4Weight, Packed
from ideogram_q8.numerics import ggml
from ideogram_q8.runtime.kernels import (
    Prologue,
    fp8_linear,
    ggml_linear,
    int8_linear,
    int8_weight_only_linear,
    nf4_linear,
    row_scale,
)


class PackedLinear(nn.Module):
    """A Linear [..., in_features] -> [..., out_features] whose packed buffers keep their dtypes under `.to(dtype)`."""

    bias: torch.Tensor | None

    def __init__(self, out_features: int, in_features: int, packed: dict[str, torch.Tensor], bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.packed_names = tuple(packed)
        for name, tensor in packed.items():
            self.register_buffer(name, tensor)
        self.register_buffer("bias", bias)

    @property
    def folds(self) -> bool:
        """Whether the layer's kernel may take a prologue into its own pass over the tokens."""
        return False

    def after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        """`self(before.apply(x))`, unseen by hooks."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        before = {name: self._buffers[name] for name in self.packed_names}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(PackedLinear):
    """W8A8, or W8A16 where activations are not quantized: `codes` int8 [N, K], `scale` float32 [N, 1].

    Inputs are rotated first where the weight was.
    """

    codes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, packed: Int8Weight, bias: torch.Tensor | None) -> None:
        super().__init__(*packed.shape, {"codes": packed.codes, "scale": packed.scale}, bias)
        self.rotation, self.weight_only = packed.rotation, packed.weight_only

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(Prologue(), x)

    @property
    def folds(self) -> bool:
        return not self.weight_only

    def after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        before = replace(before, rotation=self.rotation)
        if self.weight_only:
            return int8_weight_only_linear(before.apply(x), self.codes, self.scale, self.bias)
        return int8_linear(x, self.codes, self.scale, self.bias, before.step, before.factor, before.eps, before.rotation)


class GgmlLinear(PackedLinear):
    """A ggml block type: `data` uint8 [N, bytes], expanded at each call; with `scale` float32 [N, 1] to int8 codes, for W8A8."""

    data: torch.Tensor

    def __init__(self, packed: GgmlWeight, bias: torch.Tensor | None) -> None:
        scale = {} if packed.scale is None else {"scale": packed.scale}
        super().__init__(*packed.shape, {"data": packed.data, **scale}, bias)
        self.block = ggml.BLOCKS[packed.block]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(Prologue(), x)

    @property
    def folds(self) -> bool:
        return "scale" in self.packed_names

    def after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        scale = self._buffers.get("scale")
        return ggml_linear(x, self.data, self.block.name, self.bias, scale, before.step, before.factor, before.eps)

    def extra_repr(self) -> str:
        compute = "int8" if "scale" in self.packed_names else "the activations' dtype"
        return f"{super().extra_repr()}, block={self.block.name}, computes in {compute}"


class Fp8Linear(PackedLinear):
    """The official FP8 layer: `weight` e4m3 [N, K] times `scale` float32 [N], both rounded to bfloat16, product too."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, packed: Fp8Weight, bias: torch.Tensor | None) -> None:
        super().__init__(*packed.shape, {"weight": packed.weight, "scale": packed.scale}, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(Prologue(), x)

    def after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        return fp8_linear(before.apply(x), self.weight, self.scale, self.bias)


class Nf4Linear(PackedLinear):
    """The official NF4 layer: `data` uint8 [N, K / 2], two levels a byte, times `absmax` float32 [N, K / block], in bfloat16."""

    data: torch.Tensor
    absmax: torch.Tensor

    def __init__(self, packed: Nf4Weight, bias: torch.Tensor | None) -> None:
        super().__init__(*packed.shape, {"data": packed.data, "absmax": packed.absmax}, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(Prologue(), x)

    def after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        return nf4_linear(before.apply(x), self.data, self.absmax, self.bias)


def from_packed(packed: Packed, bias: torch.Tensor | None = None) -> PackedLinear:
    """The layer for a packed weight; `bias` floating [N] or None."""
    match packed:
        case Int8Weight():
            return Int8Linear(packed, bias)
        case GgmlWeight():
            return GgmlLinear(packed, bias)
        case Fp8Weight():
            return Fp8Linear(packed, bias)
        case Nf4Weight():
            return Nf4Linear(packed, bias)


def watched(module: nn.Module) -> bool:
    """Whether somebody looks at what goes in or comes out, as calibration does."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def folding(layer: nn.Module) -> PackedLinear | None:
    """The layer, if it may take a prologue into its kernel and nobody watches what goes in."""
    return layer if isinstance(layer, PackedLinear) and layer.folds and not watched(layer) else None


def for_int8_compute(packed: Packed, device: torch.device) -> Packed:
    """A weight in ggml's blocks with the scale of each row, found on `device`, where the result is; others as they are."""
    if not isinstance(packed, GgmlWeight):
        return packed
    data = packed.data.to(device)
    return replace(packed, data=data, scale=row_scale(data, ggml.BLOCKS[packed.block]))
