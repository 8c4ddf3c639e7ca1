"""Rotation: orthonormal, its own inverse, invisible in the product, equal to comfy-kitchen's."""

from __future__ import annotations

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


def grid_error(x: torch.Tensor, group: int) -> torch.Tensor:
    """[..., n]: how far a group's values may move in all, by half a unit of 2^-23 * group * its peak's power of two each."""
    peak = x.abs().unflatten(-1, (-1, group)).amax(-1).double()
    return 0.5 * 2.0**-23 * group * peak * group**0.5


@pytest.mark.parametrize("group", GROUPS)
def test_rotating_is_the_matrix_product_by_groups(group):
    x = random(5, 3, 2 * group)
    exact = (x.double().unflatten(-1, (2, group)) @ rotation.matrix(group).double()).flatten(-2)
    error = (rotation.rotate(x, group) - exact).unflatten(-1, (2, group)).norm(dim=-1)
    assert (error <= grid_error(x, group)).all()


@pytest.mark.parametrize("group", GROUPS)
def test_no_order_of_additions_changes_a_bit(group):
    """What makes artifacts the same on every device: products and the butterfly give the exact sums of what lies on the grid."""
    groups = random(700, group) * 2.0 ** torch.arange(-350, 350)[:, None].clamp(-90, 90)
    rotation._to_grid(groups)
    exact = (groups.double() @ rotation.matrix(group).double()).float()  # 24 and 8 bits and their sums: exact in float64
    products, butterfly = groups.clone(), groups.clone()
    rotation._products(products, torch.empty_like(groups))
    rotation._butterfly(butterfly)
    assert torch.equal(products, exact) and torch.equal(butterfly, exact)
    shuffled, order = groups.clone(), torch.randperm(group, generator=torch.Generator().manual_seed(3))
    assert torch.equal(shuffled[:, order] @ rotation.matrix(group)[order], exact)


def test_bfloat16_down_to_a_512th_of_the_peak_is_on_the_grid():
    x = random(64, 256).bfloat16().float()
    peak = 2.0 ** x.abs().amax(1, keepdim=True).log2().floor()
    x[x.abs() < peak / 256] = 0
    moved = x.clone()
    rotation._to_grid(moved)
    assert torch.equal(moved, x)


@pytest.mark.parametrize("group", GROUPS)
def test_rotating_twice_gives_the_input_back(group):
    x = random(7, 3 * group)
    once = rotation.rotate(x, group)
    error = (rotation.rotate(once, group) - x).unflatten(-1, (-1, group)).norm(dim=-1)
    assert (error <= grid_error(x, group) + grid_error(once, group)).all()
    whole = torch.randint(-8, 9, (7, 3 * group), generator=torch.Generator().manual_seed(1)).float()
    assert torch.equal(rotation.rotate(rotation.rotate(whole, group), group), whole)  # sums of integers are exact


def test_the_product_does_not_see_a_rotation_of_both_sides():
    x, weight = random(40, 768), random(50, 768, seed=1)
    exact = x.double() @ weight.double().T
    rotated = rotation.rotate(x).double() @ rotation.rotate(weight).double().T
    assert (rotated - exact).norm() <= 2.0**-16 * (x.norm(dim=1)[:, None] * weight.norm(dim=1)).norm()


def test_negation_and_powers_of_two_pass_through_and_rows_are_independent():
    x = random(33, 512)
    y = rotation.rotate(x)
    assert torch.equal(rotation.rotate(-8 * x), -8 * y)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(2))
    assert torch.equal(rotation.rotate(x[order]), y[order])
    many = x.repeat(70, 1)  # more than one chunk
    assert torch.equal(rotation.rotate(many), y.repeat(70, 1))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_bit(threads):
    x, before = random(40, 512), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(rotation.rotate(x), torch.cat([rotation.rotate(row[None]) for row in x]))
    finally:
        torch.set_num_threads(before)


def test_weights_are_rotated_while_they_are_quantized():
    weight = random(30, 512).bfloat16()
    for found, expected in zip(
        int8.quantize_per_channel(weight, 256), int8.quantize_per_channel(rotation.rotate(weight.float())), strict=True
    ):
        assert torch.equal(found, expected)


def test_nothing_but_zeros_and_the_smallest_numbers():
    x = torch.zeros(3, 256)
    x[1] = 1e-45
    x[2, 0] = 2.0**-110
    assert torch.equal(rotation.rotate(x).abs(), torch.tensor([0.0, 0.0, 2.0**-114])[:, None].expand(3, 256))


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
    from comfy_kitchen.tensor import int8_utils as kitchen

    h = kitchen._build_hadamard(group)
    assert torch.equal(h, rotation.matrix(group))
    x, weight = random(20, 2 * group), random(30, 2 * group, seed=1)
    for values, theirs in ((weight, kitchen._rotate_weight(weight, h, group)), (x, kitchen._rotate_activation(x, h, group))):
        error = (rotation.rotate(values, group) - theirs).unflatten(-1, (-1, group)).norm(dim=-1)
        assert (error <= grid_error(values, group) + 1e-6 * values.norm(dim=1, keepdim=True)).all()
