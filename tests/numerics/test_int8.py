"""int8: bounds, symmetry, exactness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.numerics import int8


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40))
def test_the_error_is_at_most_half_a_step(row):
    x = torch.tensor([row], dtype=torch.float32)
    codes, scale = int8.quantize_per_channel(x)
    assert codes.abs().max() <= 127
    assert ((int8.dequantize(codes, scale) - x).abs() <= scale * (0.5 + 2**-15)).all()


def test_scales_are_those_of_numpy():
    x = random(50, 33)
    amax = np.abs(x.numpy()).max(1, keepdims=True)
    codes, scale = int8.quantize_per_token(x)
    assert np.array_equal(scale.numpy(), amax / np.float32(127))
    assert np.array_equal(codes.numpy(), np.rint(x.numpy() / scale.numpy()).astype(np.int8))


def test_halves_round_to_the_even_code():
    codes, scale = int8.quantize_per_token(torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5]))
    assert codes.tolist() == [127, 0, 2, 2, 0, -2]
    assert scale.item() == 1


def test_negation_negates_the_codes():
    x = random(20, 30)
    codes, scale = int8.quantize_per_channel(x)
    negated, same = int8.quantize_per_channel(-x)
    assert torch.equal(negated, -codes) and torch.equal(same, scale)


def test_a_power_of_two_changes_the_scale_only():
    codes, scale = int8.quantize_per_channel(random(20, 30))
    others, scaled = int8.quantize_per_channel(random(20, 30) * 8)
    assert torch.equal(others, codes) and torch.equal(scaled, scale * 8)


def test_codes_survive_a_round_trip():
    codes, scale = int8.quantize_per_channel(random(20, 30))
    again, _ = int8.quantize_per_channel(int8.dequantize(codes, scale))
    assert torch.equal(again, codes)


def test_rows_of_zeros_have_scale_one():
    codes, scale = int8.quantize_per_channel(torch.tensor([[0.0, 0.0], [0.0, 1e-45]]))
    assert scale[0].item() == 1
    assert codes[0].tolist() == [0, 0]
    assert scale.isfinite().all()


def test_shapes_and_types():
    codes, scale = int8.quantize_per_token(random(2, 3, 8).bfloat16())
    assert (codes.dtype, codes.shape) == (torch.int8, (2, 3, 8))
    assert (scale.dtype, scale.shape) == (torch.float32, (2, 3, 1))


@given(st.permutations(range(20)))
def test_permuted_rows_have_permuted_codes(order):
    x, rows = random(20, 30), torch.tensor(order)
    for quantize in (int8.quantize_per_channel, int8.quantize_per_token):
        codes, scale = quantize(x)
        permuted, scales = quantize(x[rows])
        assert torch.equal(permuted, codes[rows]) and torch.equal(scales, scale[rows])
    assert torch.equal(int8.matmul(codes[:7], permuted), int8.matmul(codes[:7], codes)[:, rows])


@pytest.mark.parametrize("width", [1, 7, 1024, 1025, 3000])
def test_the_product_is_exact(width):
    generator = torch.Generator().manual_seed(width)
    a, b = (torch.randint(-128, 128, (n, width), generator=generator, dtype=torch.int8) for n in (3, 5))
    a[0], b[0] = -128, -128  # the largest sum there is
    assert torch.equal(int8.matmul(a, b), (a.long() @ b.long().T).to(torch.int32))
