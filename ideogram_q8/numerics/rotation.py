"""ConvRot's rotation: groups of inputs times a regular Hadamard matrix, which spreads an outlier over its group.

H4 = [[1,1,1,-1],[1,1,-1,1],[1,-1,1,1],[-1,1,1,1]], raised to the group's size (a power of 4) by Kronecker products and divided by its
square root: orthonormal and symmetric, hence its own inverse. Unlike the usual Hadamard matrix it has no row of ones, so a mean is
no outlier either. The convention is that of ComfyUI's `int8_tensorwise` with `convrot` (comfy-kitchen 0.2, tensor/int8_utils.py,
Apache-2.0): the weight is rotated offline as W H^T by groups of its input axis, the activation at run time as x H, and
(x H)(W H^T)^T = x W^T. As H is symmetric, one function serves both.

Computed as a butterfly of additions in a fixed order, not as a matrix product: the bits depend on no device and no thread count,
and the error is smaller. In float32 the result's distance to the exact one is at most log2(group) units of 2^-24 of the group's norm.
"""

from __future__ import annotations

import torch

GROUP = 256
"""The group size that ComfyUI and stable-diffusion.cpp have fast kernels for."""

_CHUNK = 1 << 18
"""Values rotated at a time: what the passes of the butterfly touch stays in cache."""


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
    """Each group of the last axis times `matrix(group)`: floating [..., K] -> the same shape and dtype. Its own inverse.

    Computed in float32 (float64 stays), rounded to the dtype of `x` once.

    Raises:
        ValueError: `group` is not a power of 4 or does not divide K.
    """
    count = stages(group)
    if x.shape[-1] % group:
        raise ValueError(f"rows have {x.shape[-1]} values; a rotation by groups of {group} needs a multiple of it")
    groups = x.reshape(-1, group)
    out = torch.empty_like(groups)
    rows = max(1, _CHUNK // group)
    for source, target in zip(groups.split(rows), out.split(rows), strict=True):
        target.copy_(_butterfly(source, count))
    return out.reshape(x.shape)


def _butterfly(groups: torch.Tensor, count: int) -> torch.Tensor:
    """[n, 4^count] -> the same. The group's axis leads meanwhile, so that every addition runs along contiguous memory."""
    rows, size = groups.shape
    wide = torch.float64 if groups.dtype == torch.float64 else torch.float32
    values = groups.to(wide).T.contiguous()
    for stage in range(count):
        a, b, c, d = values.view(4**stage, 4, -1).unbind(1)
        ab, a_b, cd, c_d = a + b, a - b, c + d, c - d
        values = torch.stack([ab + c_d, ab - c_d, a_b + cd, cd - a_b], 1)
    return values.reshape(size, rows).T * 2.0**-count
