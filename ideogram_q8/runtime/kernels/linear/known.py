"""Trying a W8A8 linear on products that are known: of rows whose codes come out the same wherever a quantizer rounds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import torch

from ideogram_q8.numerics import int8
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, Prologue], torch.Tensor]
"""(x [M, K], [M, 2 K] for SwiGLU, codes int8 [N, K], scale float32 [N, 1], bias [N] or None, what is done to x first)
-> [M, N] in the dtype of x."""
_DISTINCT_ROWS, _DISTINCT_OUTPUTS = 61, 59
"""Primes, so that a tile in another's place is noticed, and few enough that the processor soon knows what to expect."""
_SCALE = 2.0**-14
"""Of the weights: sums of 16384 products fit float16."""


def wrong(linear: Linear, device: str, dtype: torch.dtype, kind: tuple[str, int], size: tuple[int, int, int]) -> str | None:
    """What `linear` gets wrong on a device, or None: its rows and weights repeat, not in step with any tile, and every output is compared.

    Args:
        kind: of the `Prologue`.
        size: rows, inputs and outputs.
    """
    rows, inputs, outputs = size
    x, before, weight, sums = _example(kind, min(rows, _DISTINCT_ROWS), inputs, min(outputs, _DISTINCT_OUTPUTS))
    expected = sums.to(device, dtype)[:, torch.arange(outputs, device=device) % len(weight)]
    factor = None if before.factor is None else before.factor.to(device, dtype)
    there = replace(before, factor=factor)
    x, weight = _repeated(x.to(device, dtype), rows), _repeated(weight.to(device), outputs)
    y = linear(x, weight, torch.full((outputs, 1), _SCALE, device=device), None, there)
    if y.shape != (rows, outputs):
        return f"gave {list(y.shape)}, expected {[rows, outputs]}"
    count = sum(int((part != expected[: len(part)]).sum()) for part in y.split(len(expected)))
    return f"{count} of {y.numel()} sums are wrong" if count else None


def _repeated(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows[torch.arange(count, device=rows.device) % len(rows)]


@functools.lru_cache(maxsize=4)
def _example(
    kind: tuple[str, int], rows: int, inputs: int, outputs: int
) -> tuple[torch.Tensor, Prologue, torch.Tensor, torch.Tensor]:
    """Rows float32, what is done to them first, codes int8 [outputs, inputs] of weights, and the product float32 [rows, outputs]."""
    generator = torch.Generator().manual_seed(0)
    shapes = (rows, inputs), (outputs, inputs)
    a, weight = (torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8) for shape in shapes)
    a[0], weight[0], weight[1:2] = 127, 127, -127  # the largest sums of both signs, where 16-bit sums would saturate
    a[:, -1] = 127  # every row has scale 1
    x, before, a = _known_input(a, *kind)
    return x, before, weight, int8.matmul(a, weight).float().mul_(_SCALE)


def _known_input(a: torch.Tensor, step: str, rotation: int) -> tuple[torch.Tensor, Prologue, torch.Tensor]:
    """Rows, a prologue, and the codes int8 [M, K] that it makes of them in every floating dtype and order of sums; made of codes `a`.

    Signs have mean square 1, so that a norm leaves them alone and its factor is what counts. silu(32) is 32. A group of equal
    magnitudes is the rotation of a group with a single value.
    """
    if step == "rms_norm":
        a = torch.where(a < 0, -1, 1).to(torch.int8) * a[1].abs()
    if rotation:
        groups = a.view(len(a), -1, rotation)
        each = torch.arange(groups.shape[1])
        alone = torch.zeros_like(groups)
        alone[:, each, each * 37 % rotation] = groups[:, :, -1]
        a = alone.view_as(a)
    x = Prologue(rotation=rotation).apply(a.float())
    if step == "swiglu":
        return torch.cat([torch.full_like(x, 32.0), x / 32], -1), Prologue(step, rotation=rotation), a
    if step == "rms_norm":
        return torch.where(x < 0, -1.0, 1.0), Prologue(step, x[1].abs(), rotation=rotation), a
    return x, Prologue(rotation=rotation), a
