"""Smoothing: the product keeps its bits, exponents follow SmoothQuant, and hostile texts are refused."""

from __future__ import annotations

import base64
import contextlib
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.errors import ArtifactError
from ideogram_q8.numerics import smoothing

AMAX = st.one_of(st.just(0.0), st.floats(2.0**-40, 2.0**40, width=32))
PAIRS = st.lists(st.tuples(AMAX, AMAX), min_size=1, max_size=30)
EXPONENTS = st.lists(st.integers(-15, 15), min_size=1, max_size=300)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3


def some_exponents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-15, 16, (count,), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_product_is_bit_identical(dtype):
    x, weight, e = random(40, 300).to(dtype), random(50, 300, seed=1).to(dtype), some_exponents(300)
    smoothed = smoothing.scale_columns(x, -e) @ smoothing.scale_columns(weight, e).T
    assert torch.equal(smoothed, x @ weight.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scaling_is_ldexp_and_its_inverse_brings_the_bits_back(dtype):
    weight, columns, rows = random(40, 60).to(dtype), some_exponents(60), some_exponents(40, 1)
    by_columns, by_rows = smoothing.scale_columns(weight, columns), smoothing.scale_rows(weight, rows)
    assert by_columns.dtype == by_rows.dtype == dtype
    assert torch.equal(by_columns.double(), torch.ldexp(weight.double(), columns.double()))
    assert torch.equal(by_rows.double(), torch.ldexp(weight.double(), rows.double()[:, None]))
    assert torch.equal(smoothing.scale_columns(by_columns, -columns), weight)
    assert torch.equal(smoothing.scale_rows(by_rows, -rows), weight)
    assert torch.equal(smoothing.scale_rows(weight[:, 0], rows), by_rows[:, 0])


def test_a_norm_before_a_linear_folds_without_a_trace():
    x, norm, weight, e = random(20, 64), random(64, seed=1), random(30, 64, seed=2), some_exponents(64)
    folded = (x * smoothing.scale_rows(norm, -e)) @ smoothing.scale_columns(weight, e).T
    assert torch.equal(folded, (x * norm) @ weight.T)


@given(PAIRS, st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]))
def test_exponents_are_rounded_smoothquant_scales(pairs, alpha):
    x, w = torch.tensor(pairs, dtype=torch.float32).T
    e = smoothing.exponents(x, w, alpha)
    assert e.dtype == torch.int8 and e.abs().max() <= 15
    for got, (amax_x, amax_w) in zip(e.tolist(), pairs, strict=True):
        if amax_x == 0 or amax_w == 0:
            assert got == 0
            continue
        scale = amax_x**alpha / amax_w ** (1 - alpha)
        nearest = min(max(scale, 2.0**-15), 2.0**15) / 2.0**got
        assert 2**-0.5000001 <= nearest <= 2**0.5000001


@given(PAIRS, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_swapping_activation_and_weight_negates_the_exponents(pairs, alpha):
    x, w = torch.tensor(pairs, dtype=torch.float32).T
    assert torch.equal(smoothing.exponents(w, x, 1 - alpha), -smoothing.exponents(x, w, alpha))


def test_half_smoothing_ignores_a_power_of_four_on_both_sides_and_meets_in_the_middle():
    x, w = random(100).abs() + 0.01, random(100, seed=1).abs() + 0.01
    e = smoothing.exponents(x, w, 0.5)
    assert torch.equal(smoothing.exponents(x * 4, w * 4, 0.5), e)
    assert torch.equal(smoothing.exponents(x * 4, w, 0.5), e + 1)
    balanced = (smoothing.scale_columns(x, -e) / smoothing.scale_columns(w, e)).log2().abs()
    assert balanced.max() <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("x", "w", "alpha", "message"),
    [
        ([1.0], [1.0], 1.5, "alpha is 1.5"),
        ([1.0, 2.0], [1.0], 0.5, "maxima have shapes"),
        ([float("nan")], [1.0], 0.5, "activation maxima are not all finite"),
        ([1.0], [-1.0], 0.5, "weight maxima are not all finite"),
    ],
)
def test_nonsense_is_refused(x, w, alpha, message):
    with pytest.raises(ValueError, match=message):
        smoothing.exponents(torch.tensor(x), torch.tensor(w), alpha)


@pytest.mark.parametrize(
    "bad", [torch.tensor([16], dtype=torch.int8), torch.tensor([-128], dtype=torch.int8), torch.tensor([1])]
)
def test_exponents_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="expected int8 from -15 to 15"):
        smoothing.scale_columns(torch.ones(1), bad)


@given(EXPONENTS)
def test_text_round_trip(values):
    e = torch.tensor(values, dtype=torch.int8)
    assert torch.equal(smoothing.decode(smoothing.encode(e), len(values)), e)


def text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ("", "cannot be unpacked|got 0"),
        ("§", "cannot be unpacked"),
        ("abc", "cannot be unpacked"),
        ("AAAA", "cannot be unpacked"),
        (text(bytes(7)), "got 7, expected 8"),
        (text(bytes(9)), "got more, expected 8"),
        (text(bytes(10**7)), "got more, expected 8"),
        (base64.b64encode(zlib.compress(bytes(8)) + b"x").decode(), "expected 8 and no more"),
        (base64.b64encode(zlib.compress(bytes(8))[:-1]).decode(), "expected 8 and no more"),
        (text(bytes([16] * 8)), "reach 16"),
        (text(bytes([128] * 8)), "reach 128"),
    ],
)
def test_hostile_texts_are_refused(packed, message):
    with pytest.raises(ArtifactError, match=message):
        smoothing.decode(packed, 8)


@given(st.text(max_size=60))
def test_any_text_gives_exponents_or_our_error(packed):
    with contextlib.suppress(ArtifactError):
        assert smoothing.decode(packed, 4).shape == (4,)
