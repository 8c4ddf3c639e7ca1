"""IQ4_NL: 32 values of 4 bits that index a fixed, unevenly spaced table, and a float16 scale.

Read from ggml-quants.c (MIT): `quantize_iq4_nl`, `quantize_row_iq4_nl_impl` with 7 tries to each side.
"""

from __future__ import annotations

import functools
import itertools

import torch

from ideogram_q8.numerics.ggml.c_float import (
    EPSILON,
    columns,
    divide,
    half_bytes,
    half_values,
    importance_columns,
    inverse_or_zero,
    ordered_sum,
    signed_peak,
    square_root,
)
from ideogram_q8.numerics.ggml.legacy import pack_nibbles, unpack_nibbles

_TABLE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_SIZE = 32
_TRIES = 7


def encode_iq4_nl(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """float32 [R, K], importance [K] or None -> uint8 [R * K / 32, 18]."""
    x = columns(rows, _SIZE)
    scale = _fit(x, _weights(x, importance))
    codes = _codes(x * inverse_or_zero(scale))
    return torch.cat([half_bytes(scale), pack_nibbles(codes.to(torch.uint8))], 1)


def decode_iq4_nl(data: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 18] -> float32 [n, 32]."""
    table = torch.tensor(_TABLE, dtype=torch.float32, device=data.device)
    return table[unpack_nibbles(data[:, 2:]).long()] * half_values(data[:, :2])


def _weights(x: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    square = x * x
    if importance is None:
        return square
    energy = ordered_sum(square) * (2.0 / _SIZE)
    return importance_columns(importance, _SIZE, x.shape[1]) * square_root(energy + square)


def _fit(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The scale [n] of each column [32, n] with the least weighted square error among 16 tries; 0 where the values are."""
    peak = signed_peak(x)
    zero = peak.abs() < EPSILON
    peak = torch.where(zero, torch.ones_like(peak), peak)
    first = divide(1.0, divide(-peak, float(_TABLE[0])))
    sum_qx, sum_q2 = _sums(x, weights, first)
    scale = torch.where(sum_q2 > 0, sum_qx / sum_q2, torch.zeros_like(peak))
    best = scale * sum_qx
    for offset in range(-_TRIES, _TRIES + 1):
        sum_qx, sum_q2 = _sums(x, weights, divide(float(offset + _TABLE[0]), peak))
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        new_scale = sum_qx / sum_q2
        scale = torch.where(better, new_scale, scale)
        best = torch.where(better, new_scale * sum_qx, best)
    return scale.masked_fill(zero, 0.0)


def _sums(x: torch.Tensor, weights: torch.Tensor, inverse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With q the table's value nearest to inverse * x: the sums of weights * q * x and of weights * q * q, [n] each."""
    q = torch.tensor(_TABLE, dtype=torch.float32, device=x.device)[_codes(x * inverse)]
    terms = weights * q
    return ordered_sum(terms * x), ordered_sum(terms.mul_(q))


@functools.cache
def _nearest_codes(device: torch.device) -> torch.Tensor:
    """Index of the nearest table value for half-integers -127, -126.5, ... 127: the upper one of two as near."""
    halves = torch.arange(-254, 255, dtype=torch.float32)
    middles = torch.tensor([a + b for a, b in itertools.pairwise(_TABLE)], dtype=torch.float32)  # doubled
    return torch.bucketize(halves, middles, right=True).to(device)


def _codes(scaled: torch.Tensor) -> torch.Tensor:
    """`best_index_int8`, int64: the middles between values are half-integers, so that floor(2 x) decides. NaN is the last."""
    halves = (2 * scaled).floor_().clamp_(-254, 254).nan_to_num_(254.0)
    return _nearest_codes(scaled.device)[(halves + 254).long()]
