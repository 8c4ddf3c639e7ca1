"""Packed Linears compute what their format means and keep their bytes under `.to`."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight, Packed
from ideogram_q8.numerics import fp8, ggml, int8
from ideogram_q8.numerics.rotation import rotate
from ideogram_q8.runtime.layers.packed import PackedLinear, for_int8_compute, from_packed

OUTPUTS, INPUTS = 96, 512
FORMATS = ("fp8", "int8", "q8_0", "q4_k", "q4_k in int8")


def weight() -> torch.Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1)) / 20


def packed(name: str) -> tuple[Packed, torch.Tensor]:
    """The weight in a format, and the float32 [N, K] that it stands for."""
    if name == "fp8":
        codes, scale = fp8.quantize_per_row(weight())
        return Fp8Weight(codes, scale), fp8.dequantize_per_row(codes, scale).float()
    if name == "int8":
        codes, scale = int8.quantize_per_channel(weight())
        return Int8Weight(codes, scale), int8.dequantize(codes, scale)
    block = ggml.BLOCKS[name.split()[0]]
    data = ggml.encode(weight(), block)
    stored = GgmlWeight(data, block.name, (OUTPUTS, INPUTS))
    meaning = ggml.decode(data, block)
    return for_int8_compute(stored, data.device) if name.endswith("int8") else stored, meaning


def inputs() -> torch.Tensor:
    return torch.randn(2, 20, INPUTS, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_computes_what_the_format_means(name: str, with_bias: bool) -> None:
    stored, meaning = packed(name)
    bias = torch.linspace(-1, 1, OUTPUTS) if with_bias else None
    exact = functional.linear(inputs(), meaning, bias)
    error = from_packed(stored, bias)(inputs()) - exact
    # int8 rounds the activations as well, and blocks to codes
    assert error.norm() / exact.norm() < {"int8": 0.01, "q4_k in int8": 0.015}.get(name, 1e-6)


def test_int8_with_whole_activations_is_exact() -> None:
    codes, scale = int8.quantize_per_channel(weight())
    layer = from_packed(Int8Weight(codes, scale, weight_only=True))
    assert torch.equal(layer(inputs()), functional.linear(inputs(), int8.dequantize(codes, scale)))


@pytest.mark.parametrize("weight_only", [False, True])
def test_a_rotation_undoes_itself(weight_only: bool) -> None:
    codes, scale = int8.quantize_per_channel(rotate(weight(), 256))
    layer = from_packed(Int8Weight(codes, scale, 256, weight_only))
    exact = functional.linear(inputs(), weight())
    assert (layer(inputs()) - exact).norm() / exact.norm() < 0.02
    part = from_packed(Int8Weight(codes, scale, 256, weight_only).row_slice(32, 64))
    assert torch.allclose(part(inputs()), layer(inputs())[..., 32:64], atol=1e-5)


def test_a_rotation_spreads_an_outlier() -> None:
    x = inputs()
    x[..., 7] += 100.0
    exact = functional.linear(x, weight())
    errors = []
    for group in (0, 256):
        codes, scale = int8.quantize_per_channel(rotate(weight(), group) if group else weight())
        errors.append((from_packed(Int8Weight(codes, scale, group))(x) - exact).norm())
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_can_be_sliced(name: str) -> None:
    stored, _ = packed(name)
    whole = from_packed(stored)(inputs())
    part = from_packed(stored.row_slice(32, 64))(inputs())
    assert torch.allclose(part, whole[..., 32:64], atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_cast_keeps_what_is_packed(name: str) -> None:
    stored, _ = packed(name)
    layer = from_packed(stored, torch.zeros(OUTPUTS))
    before = {key: (value.dtype, value.clone()) for key, value in layer.named_buffers() if key != "bias"}
    layer.to(torch.bfloat16)
    assert layer.bias is not None and layer.bias.dtype == torch.bfloat16
    for key, (dtype, value) in before.items():
        after = layer.get_buffer(key)
        assert after.dtype == dtype and torch.equal(after.view(torch.uint8), value.view(torch.uint8))
    y = layer(inputs().to(torch.bfloat16))
    assert y.dtype == torch.bfloat16 and y.isfinite().all()


@pytest.mark.parametrize("name", FORMATS)
def test_stands_where_a_linear_stood(name: str) -> None:
    layer: PackedLinear = from_packed(packed(name)[0])
    assert (layer.in_features, layer.out_features, layer.bias) == (INPUTS, OUTPUTS, None)
    assert not list(layer.parameters())
    assert f"in_features={INPUTS}, out_features={OUTPUTS}, bias=False" in repr(layer)
    moved = layer.to("meta")
    assert all(buffer.is_meta for buffer in moved.buffers())
