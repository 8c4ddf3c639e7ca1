"""ConvRot's rotation: groups of inputs times a regular Hadamard matrix, which spreads an outlier over its group.

H4 = [[1,1,1,-1],[1,1,-1,1],[1,-1,1,1],[-1,1,1,1]], raised to the group's size (a power of 4) by Kronecker products and divided by its
square root: orthonormal and symmetric, hence its own inverse. Unlike the usual Hadamard matrix it has no row of ones, so a mean is
no outlier either. The convention is that of ComfyUI's `int8_tensorwise` with `convrot` (comfy-kitchen 0.2, tensor/int8_utils.py,
Apache-2.0): the weight is rotated offline as W H^T by groups of its input axis, the activation at run time as x H, and
(x H)(W H^T)^T = x W^T. As H is symmetric, one function serves both.

The same bits on every device, with every BLAS and number of threads, for nothing but the first step rounds: values are brought to
a grid so coarse, 2^-15 of the group's largest power of two at 256, that all sums of a group fit into float32's 24 bits. Then the
order of additions does not matter, and on the CPU two matrix products of a factor H16 each (2 ns a weight on a core) may do what a
butterfly of additions in a fixed order does elsewhere, where products could be TF32. The grid is exact for the bfloat16 values of a
group down to 1/512 of its largest, and below moves them by at most 2^-16 of that: 1/30 of what an int8 code may be off where one
outlier is the whole group, and far less otherwise.

Rejected: additions in a fixed order in full float32, which torch does at 4 to 7 ns a weight; the plain product, whose last bits are
the BLAS's own.
"""

from __future__ import annotations

import functools

import torch

GROUP = 256
"""The group size that ComfyUI and stable-diffusion.cpp have fast kernels for."""

_CHUNK = 1 << 20
"""Values rotated at a time on the CPU: fewer, and the calls cost more than the arithmetic."""
_FACTOR = 16
"""Side of the factor that is multiplied with at a time: the smallest that keeps a matrix product busy."""
_SMALLEST = 2.0**-100
"""Groups below are rounded like those with such a peak, so that no step leaves the normal numbers."""
_EXPONENT_BITS = 0x7F800000


def stages(group: int) -> int:
    """How many factors H4 the matrix of a group has.

    Raises:
        ValueError: the group's size is not a power of 4, 4 or more.
    """
    count = (group.bit_length() - 1) // 2
    if group < 4 or 4**count != group:
        raise ValueError(f"rotation group is {group}; expected a power of 4: 4, 16, 64, 256, ...")
    return count


def matrix(group: int = GROUP) -> torch.Tensor:
    """The orthonormal, symmetric matrix, float32 [group, group]; every entry is plus or minus 1 / sqrt(group), exactly."""
    h4 = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
    product = h4
    for _ in range(stages(group) - 1):
        product = torch.kron(product, h4)
    return product


def rotate(x: torch.Tensor, group: int = GROUP) -> torch.Tensor:
    """Each group of the last axis times `matrix(group)`: floating [..., K] -> the same shape and dtype.

    Computed in float32 on the group's grid, rounded to the dtype of `x` once. Its own inverse but for the grid.

    Raises:
        ValueError: `group` is not a power of 4 or does not divide K.
    """
    stages(group)
    if x.shape[-1] % group:
        raise ValueError(f"rows have {x.shape[-1]} values; a rotation by groups of {group} needs a multiple of it")
    groups = x.detach().reshape(-1, group)
    out = torch.empty_like(groups)
    rows = max(1, _CHUNK // group) if x.device.type == "cpu" else max(1, len(groups))
    values = torch.empty(min(rows, len(groups)), group, device=x.device)
    scratch = torch.empty_like(values)
    for source, target in zip(groups.split(rows), out.split(rows), strict=True):
        part = values[: len(source)].copy_(source)
        rotate_(part, group, scratch[: len(source)])
        target.copy_(part)
    return out.reshape(x.shape)


def rotate_(values: torch.Tensor, group: int, scratch: torch.Tensor) -> None:
    """Rotates contiguous float32 `values` in place; what is in `scratch`, of the same size, is lost."""
    groups, others = values.view(-1, group), scratch.view(-1, group)
    _to_grid(groups)
    if groups.device.type == "cpu":
        _products(groups, others)
    else:
        _butterfly(groups)


def _to_grid(groups: torch.Tensor) -> None:
    """Rounds [n, group] in place so that every sum of a row, with any signs, is a float32 number.

    Adding and subtracting 1.5 * group * p, where p is the power of two at or below the row's peak, rounds to the multiple of
    u = 2^-23 * group * p, to the even of two. Values are at most 2p, sums at most 2p * group = 2^24 u.
    """
    peak = torch.maximum(groups.amax(1, keepdim=True), groups.amin(1, keepdim=True).neg_())
    peak.view(torch.int32).bitwise_and_(_EXPONENT_BITS)
    shift = peak.clamp_min_(_SMALLEST).mul_(1.5 * groups.shape[1])
    groups.add_(shift).sub_(shift)


def _products(groups: torch.Tensor, scratch: torch.Tensor) -> None:
    """In place, by two matrix products: with the last digits of a value's place in its group, then with the first."""
    count, size = groups.shape
    low = min(size, _FACTOR)
    high = size // low
    torch.mm(groups.view(-1, low), _factor(low), out=scratch.view(-1, low))
    if high == 1:
        groups.copy_(scratch)
    else:
        factor = _factor(high).expand(count, high, high)
        torch.bmm(factor, scratch.view(count, high, low), out=groups.view(count, high, low))


@functools.cache
def _factor(size: int) -> torch.Tensor:
    return matrix(size)


def _butterfly(groups: torch.Tensor) -> None:
    """In place, by additions: a digit of the place at a time."""
    values, size = groups, groups.shape[1]
    for stage in range(stages(size)):
        a, b, c, d = values.view(-1, 4, size // 4 ** (stage + 1)).unbind(1)
        ab, a_b, cd, c_d = a + b, a - b, c + d, c - d
        values = torch.stack([ab + c_d, ab - c_d, a_b + cd, cd - a_b], 1)
    torch.mul(values.view_as(groups), 2.0 ** -stages(size), out=groups)
