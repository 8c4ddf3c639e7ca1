"""ggml's one-level formats: blocks of 32 values with a float16 scale, in Q4_1 and Q5_1 a float16 minimum too.

Read from ggml-quants.c (MIT): `quantize_row_q4_0_ref` and `quantize_row_q4_0_impl`, and so on.

Encoders take float32 [R, K] and importance [K] or None, and give uint8 [R * K / 32, bytes of a block]; decoders the inverse.
"""

from __future__ import annotations

import torch

from ideogram_q8.numerics.ggml.c_float import (
    columns,
    divide,
    half_bytes,
    half_values,
    importance_columns,
    inverse_or_zero,
    least,
    ordered_sum,
    signed_peak,
    square_root,
    truncate,
)
from ideogram_q8.numerics.ggml.searches import fit_affine, fit_symmetric, numerators

_SIZE = 32
_JUST_BELOW_HALF = 0.5 - 2.0**-25


def encode_q4_0(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q4_0`."""
    scale, codes = _symmetric(rows, importance, 8)
    return torch.cat([half_bytes(scale), pack_nibbles(codes)], 1)


def encode_q5_0(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q5_0`."""
    scale, codes = _symmetric(rows, importance, 16)
    return torch.cat([half_bytes(scale), _pack_fifth_bits(codes), pack_nibbles(codes & 15)], 1)


def encode_q4_1(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q4_1`."""
    scale, minimum, codes = _affine(rows, importance, 15)
    return torch.cat([half_bytes(scale), half_bytes(minimum), pack_nibbles(codes)], 1)


def encode_q5_1(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q5_1`."""
    scale, minimum, codes = _affine(rows, importance, 31)
    return torch.cat([half_bytes(scale), half_bytes(minimum), _pack_fifth_bits(codes), pack_nibbles(codes & 15)], 1)


def encode_q8_0(rows: torch.Tensor, _importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q8_0`, which has no use for importance."""
    x = rows.reshape(-1, _SIZE)
    d = divide(x.abs().amax(1), 127.0)
    inverse = inverse_or_zero(d)
    scaled = x * inverse.masked_fill_(inverse.isinf(), 0.0)[:, None]
    # C's roundf, halves away from zero: 0.5 itself would carry 0.5 - 2**-25 over
    half = torch.full_like(scaled, _JUST_BELOW_HALF).copysign_(scaled)
    return torch.cat([half_bytes(d), scaled.add_(half).to(torch.int8).view(torch.uint8)], 1)


def row_weights(rows: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
    """importance * sqrt(mean square of the row + x**2), [32, blocks]."""
    x = columns(rows, _SIZE)
    width = rows.shape[1]
    mean_square = divide(ordered_sum(columns(rows * rows, width)), float(width)).repeat_interleave(width // _SIZE)
    return importance_columns(importance, _SIZE, x.shape[1]) * square_root(mean_square + x * x)


def _symmetric(rows: torch.Tensor, importance: torch.Tensor | None, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale [n] and codes uint8 [32, n] in 0..2 top - 1, for values scale * (code - top)."""
    x = columns(rows, _SIZE)
    if importance is not None:
        scale, codes = fit_symmetric(x, row_weights(rows, importance), top)
        return scale, codes.to(torch.uint8)
    scale = divide(signed_peak(x), float(-top))
    return scale, truncate(x.mul_(inverse_or_zero(scale)).add_(top + 0.5), 2 * top - 1)


def _affine(rows: torch.Tensor, importance: torch.Tensor | None, top: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scale [n], minimum [n] and codes uint8 [32, n] in 0..top, for values scale * code + minimum."""
    x = columns(rows, _SIZE)
    if importance is not None:
        tries = numerators(top, -0.9, 0.05, range(37))
        scale, minimum, codes = fit_affine(x, row_weights(rows, importance), top, tries)
        return scale, minimum, codes.to(torch.uint8)
    minimum = least(x)
    scale = divide(x.amax(0) - minimum + 0.0, float(top))  # of zeros of both signs C subtracts the first from itself: not -0.0
    return scale, minimum, truncate(x.sub_(minimum).mul_(inverse_or_zero(scale)).add_(0.5), top)


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [32, n] in 0..15 -> [n, 16]: value i in the lower half of byte i, value i + 16 in the upper."""
    return (codes[:16] | (codes[16:] << 4)).T


def unpack_nibbles(data: torch.Tensor) -> torch.Tensor:
    """The inverse, not transposed: uint8 [n, 16] -> uint8 [n, 32]."""
    return torch.cat([data & 15, data >> 4], 1)


def _pack_fifth_bits(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [32, n] in 0..31 -> [n, 4]: bit i of a little-endian word belongs to value i."""
    bits = (codes >> 4).reshape(4, 8, -1) << _shifts(codes)[:, None]
    return bits.sum(1, dtype=torch.uint8).T


def _unpack_fifth_bits(data: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 4] -> uint8 [n, 32], each 0 or 16."""
    return ((data[:, :, None] >> _shifts(data)) & 1).reshape(-1, _SIZE) << 4


def _shifts(like: torch.Tensor) -> torch.Tensor:
    return torch.arange(8, dtype=torch.uint8, device=like.device)


def decode_q4_0(data: torch.Tensor) -> torch.Tensor:
    """Q4_0."""
    return (unpack_nibbles(data[:, 2:]).float() - 8) * half_values(data[:, :2])


def decode_q4_1(data: torch.Tensor) -> torch.Tensor:
    """Q4_1."""
    return unpack_nibbles(data[:, 4:]).float() * half_values(data[:, :2]) + half_values(data[:, 2:4])


def decode_q5_0(data: torch.Tensor) -> torch.Tensor:
    """Q5_0."""
    codes = unpack_nibbles(data[:, 6:]) | _unpack_fifth_bits(data[:, 2:6])
    return (codes.float() - 16) * half_values(data[:, :2])


def decode_q5_1(data: torch.Tensor) -> torch.Tensor:
    """Q5_1."""
    codes = unpack_nibbles(data[:, 8:]) | _unpack_fifth_bits(data[:, 4:8])
    return codes.float() * half_values(data[:, :2]) + half_values(data[:, 2:4])


def decode_q8_0(data: torch.Tensor) -> torch.Tensor:
    """Q8_0."""
    return data[:, 2:].contiguous().view(torch.int8).float() * half_values(data[:, :2])
