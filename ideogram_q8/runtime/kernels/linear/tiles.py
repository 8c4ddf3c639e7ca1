"""A Linear whose weight is expanded when it is used: on a CPU a tile of rows at a time, elsewhere as much as a block's largest weight.

A tile of a CPU stays in cache between its expansion and its product, and bounds the memory; a GPU wants large products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ideogram_q8.runtime.kernels.choosing import workspace

TILE = 6 << 20
"""Values of a weight expanded for one product on a CPU, about: 24 MiB of float32. More where the product itself is larger."""
PART = 1 << 27
"""Values expanded for one product elsewhere, at most: w1 and w3 of a block together are 113 million, the text projection 245."""
_EVEN = 64
"""Rows of a tile are a multiple of this, which matrix libraries like: 910 rows took a quarter longer than 1152."""

Expand = Callable[[int, int, torch.Tensor], None]
"""expand(start, stop, out) writes rows start..stop of the weight into out [stop - start, K]."""


def linear(x: torch.Tensor, outputs: int, expand: Expand, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [M, K] times the weight [outputs, K] transposed, plus bias [outputs] -> [M, outputs], all in the dtype of `x`."""
    inputs = x.shape[1]
    step = rows_of_a_tile(len(x), outputs, inputs) if x.device.type == "cpu" else _even(outputs, inputs, PART)
    y = x.new_empty(len(x), outputs)
    bias = None if bias is None else bias.to(x.dtype)
    for start in range(0, outputs, step):
        stop = min(start + step, outputs)
        weight = workspace.take((stop - start, inputs), x.dtype, x.device)
        expand(start, stop, weight)
        if bias is None:
            torch.mm(x, weight.t(), out=y[:, start:stop])
        else:
            torch.addmm(bias[start:stop], x, weight.t(), out=y[:, start:stop])
    return y


def rows_of_a_tile(rows: int, outputs: int, inputs: int) -> int:
    """How many rows of a weight [outputs, inputs] to expand at a time for `rows` activations, so that all tiles are about the same."""
    return _even(outputs, inputs, max(TILE, rows * outputs // 2))


def _even(outputs: int, inputs: int, limit: int) -> int:
    """Rows of each of the fewest tiles of about `limit` values."""
    tiles = max(1, -(-outputs * inputs // limit))
    rows = -(-outputs // tiles)
    return max(_EVEN, -(-rows // _EVEN) * _EVEN)
