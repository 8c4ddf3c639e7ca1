"""The weights of a Linear as they are stored: small frozen records of tensors, without arithmetic.

Rows of a weight are its outputs, so `row_slice` splits a fused qkv without touching a block or a scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Int8Weight:
    """codes int8 [N, K], scale float32 [N, 1]; weight = codes * scale (`numerics.int8`).

    With `rotation`, it is the weight after `numerics.rotation` in groups of so many inputs, and activations are rotated too.
    With `weight_only`, activations stay as they are and the product is that of `weight`.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    rotation: int = 0
    weight_only: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]

    def row_slice(self, start: int, stop: int) -> Int8Weight:
        """Outputs start..stop, sharing memory."""
        return replace(self, codes=self.codes[start:stop], scale=self.scale[start:stop])


@dataclass(frozen=True)
class GgmlWeight:
    """data uint8 [N, bytes of a row] in blocks of type `block`, a key of `numerics.ggml.BLOCKS`; shape = (N, K) of the values.

    With `scale`, float32 [N, 1], products are W8A8 on the int8 codes that it gives the values (`kernels.ggml`).
    """

    data: torch.Tensor
    block: str
    shape: tuple[int, int]
    scale: torch.Tensor | None = None

    def row_slice(self, start: int, stop: int) -> GgmlWeight:
        """Outputs start..stop, sharing memory."""
        data = self.data[start:stop]
        scale = None if self.scale is None else self.scale[start:stop]
        return GgmlWeight(data, self.block, (len(data), self.shape[1]), scale)


@dataclass(frozen=True)
class Fp8Weight:
    """weight float8_e4m3fn [N, K], scale float32 [N], multiplied as in `numerics.fp8.dequantize_per_row`."""

    weight: torch.Tensor
    scale: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    def row_slice(self, start: int, stop: int) -> Fp8Weight:
        """Outputs start..stop, sharing memory."""
        return Fp8Weight(self.weight[start:stop], self.scale[start:stop])


@dataclass(frozen=True)
class Nf4Weight:
    """data uint8 [N, K / 2], absmax float32 [N, K / block], multiplied as in `numerics.nf4.dequantize`."""

    data: torch.Tensor
    absmax: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.data.shape[0], 2 * self.data.shape[1]

    def row_slice(self, start: int, stop: int) -> Nf4Weight:
        """Outputs start..stop, sharing memory."""
        return Nf4Weight(self.data[start:stop], self.absmax[start:stop])


Packed = Int8Weight | GgmlWeight | Fp8Weight | Nf4Weight
