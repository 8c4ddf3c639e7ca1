"""The official fp8 format against arithmetic in numpy."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.numerics import fp8


def weight(rows: int = 30, width: int = 64) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0)) ** 3


def test_scales_are_amax_over_448():
    codes, scale = fp8.quantize_per_row(weight())
    assert (codes.dtype, codes.shape) == (torch.float8_e4m3fn, (30, 64))
    assert (scale.dtype, scale.shape) == (torch.float32, (30,))
    assert torch.equal(scale, weight().abs().amax(1) / 448)
    assert torch.equal(codes.float().abs().amax(1), torch.full((30,), 448.0))


def test_the_error_is_half_a_unit_of_three_mantissa_bits():
    codes, scale = fp8.quantize_per_row(weight())
    error = (codes.float() * scale[:, None] - weight()).abs()
    smallest = scale[:, None] * 2.0**-10  # half of the smallest subnormal
    assert (error <= weight().abs() * (2.0**-4 + 1e-6) + smallest).all()


def test_dequantizing_rounds_the_scale_and_the_product_to_bfloat16():
    codes, scale = fp8.quantize_per_row(weight())
    exact = codes.double() * scale.bfloat16().double()[:, None]
    found = fp8.dequantize_per_row(codes, scale)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.float().bfloat16())  # 4 + 8 significant bits: float32 holds the product exactly
    assert not torch.equal(found, (codes.float() * scale[:, None]).bfloat16())  # it matters


def test_rows_of_zeros_stay_zero():
    codes, scale = fp8.quantize_per_row(torch.zeros(2, 4))
    assert torch.equal(fp8.dequantize_per_row(codes, scale), torch.zeros(2, 4, dtype=torch.bfloat16))
    assert (scale > 0).all()


def test_every_code_is_converted_exactly():
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    for order in (codes.view(16, 16), codes.view(16, 16).T, codes[1:], codes.view(16, 16)[:, 3:8]):
        found, expected = fp8.to_bfloat16(order), order.to(torch.bfloat16)
        assert found.shape == expected.shape
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_writing_into_a_given_tensor_gives_the_same_numbers(dtype: torch.dtype) -> None:
    codes, scale = fp8.quantize_per_row(weight())
    out = torch.empty(codes.shape, dtype=dtype)
    assert fp8.dequantize_per_row(codes, scale, out) is out
    assert torch.equal(out, fp8.dequantize_per_row(codes, scale).to(dtype))
