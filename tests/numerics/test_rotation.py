"""Rotation: orthonormal, its own inverse, invisible in the product, equal to comfy-kitchen's."""

from __future__ import annotations

import math

import pytest
import torch

from ideogram_q8.numerics import int8, rotation

GROUPS = [4, 16, 64, 256, 1024]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3


@pytest.mark.parametrize("group", GROUPS)
def test_the_matrix_is_orthonormal_symmetric_and_regular(group):
    h = rotation.matrix(group)
    assert torch.equal(h @ h.T, torch.eye(group))
    assert torch.equal(h, h.T)
    assert torch.equal(h.abs(), torch.full_like(h, group**-0.5))
    assert torch.equal(h.sum(0), torch.ones(group))  # regular: no column is an outlier for a constant input


@pytest.mark.parametrize("group", GROUPS)
def test_rotating_is_the_matrix_product_by_groups(group):
    x = random(5, 3, 2 * group)
    exact = (x.double().unflatten(-1, (2, group)) @ rotation.matrix(group).double()).flatten(-2)
    error = (rotation.rotate(x, group) - exact).unflatten(-1, (2, group)).norm(dim=-1)
    assert (error <= math.log2(group) * 2.0**-24 * x.double().unflatten(-1, (2, group)).norm(dim=-1)).all()
    fine = rotation.rotate(x.double(), group)
    assert fine.dtype == torch.float64 and torch.allclose(fine, exact, rtol=0, atol=1e-13 * float(x.abs().max()))


@pytest.mark.parametrize("group", GROUPS)
def test_rotating_twice_gives_the_input_back(group):
    x = random(7, 3 * group)
    again = rotation.rotate(rotation.rotate(x, group), group)
    assert (again - x).norm() <= 2 * math.log2(group) * 2.0**-24 * x.norm()
    whole = torch.randint(-8, 9, (7, 3 * group), generator=torch.Generator().manual_seed(1)).float()
    assert torch.equal(rotation.rotate(rotation.rotate(whole, group), group), whole)  # sums of integers are exact


def test_the_product_does_not_see_a_rotation_of_both_sides():
    x, weight = random(40, 768).double(), random(50, 768, seed=1).double()
    rotated = rotation.rotate(x) @ rotation.rotate(weight).T
    assert torch.allclose(rotated, x @ weight.T, rtol=0, atol=1e-11)
    single = rotation.rotate(x.float()) @ rotation.rotate(weight.float()).T
    assert (single - x @ weight.T).norm() <= 2e-6 * (x.norm(dim=1)[:, None] * weight.norm(dim=1)).norm()


def test_negation_and_powers_of_two_pass_through_and_rows_are_independent():
    x = random(33, 512)
    y = rotation.rotate(x)
    assert torch.equal(rotation.rotate(-8 * x), -8 * y)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(2))
    assert torch.equal(rotation.rotate(x[order]), y[order])
    many = x.repeat(100, 1)  # more than one chunk
    assert torch.equal(rotation.rotate(many), y.repeat(100, 1))


def test_an_outlier_is_spread_over_its_group():
    x = torch.zeros(1, 512)
    x[0, 300] = 100.0
    assert torch.equal(rotation.rotate(x).abs()[0], torch.tensor([0.0] * 256 + [6.25] * 256))
    noisy = random(64, 512)
    noisy[:, 17] = 300.0
    plain, rotated = int8.quantize_per_token(noisy), int8.quantize_per_token(rotation.rotate(noisy))
    rotated_error = (int8.dequantize(*rotated) - rotation.rotate(noisy)).norm()
    assert rotated_error < 0.25 * (int8.dequantize(*plain) - noisy).norm()


def test_shapes_and_types():
    x = random(2, 3, 256).bfloat16()
    assert torch.equal(rotation.rotate(x), rotation.rotate(x.float()).bfloat16())
    assert rotation.rotate(x[:0]).shape == (0, 3, 256)


@pytest.mark.parametrize("group", [0, 1, 2, 8, 128, 255, 512])
def test_groups_that_are_no_powers_of_four_are_refused(group):
    with pytest.raises(ValueError, match=f"rotation group is {group}; expected a power of 4"):
        rotation.rotate(torch.zeros(1, 1024), group)


def test_a_width_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="rows have 300 values"):
        rotation.rotate(torch.zeros(1, 300))


@pytest.mark.parametrize("group", [16, 64, 256])
def test_comfy_kitchen_rotates_the_same_way(group):
    kitchen = pytest.importorskip("comfy_kitchen.tensor.int8_utils")
    h = kitchen._build_hadamard(group)
    assert torch.equal(h, rotation.matrix(group))
    x, weight = random(20, 2 * group), random(30, 2 * group, seed=1)
    bound = 1e-6 * max(float(x.norm(dim=1).max()), float(weight.norm(dim=1).max()))
    assert torch.allclose(rotation.rotate(weight, group), kitchen._rotate_weight(weight, h, group), rtol=0, atol=bound)
    assert torch.allclose(rotation.rotate(x, group), kitchen._rotate_activation(x, h, group), rtol=0, atol=bound)
