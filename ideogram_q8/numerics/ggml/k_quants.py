"""ggml's two-level formats: blocks of 256 values in sub-blocks, whose scales are themselves codes under a float16 scale.

Read from ggml-quants.c (MIT): `quantize_row_q4_K_ref` and `quantize_row_q4_K_impl`, and so on.

Encoders take float32 [R, K] and importance [K] or None, and give uint8 [R * K / 256, bytes of a block]; decoders the inverse.
"""

from __future__ import annotations

import torch

from ideogram_q8.numerics.ggml.c_float import (
    EPSILON,
    columns,
    divide,
    half_bytes,
    half_values,
    importance_columns,
    nearest,
    ordered_sum,
    square_root,
)
from ideogram_q8.numerics.ggml.searches import fit_affine, fit_scales, fit_symmetric, numerators

_SIZE = 256
_WEIGHTED_TRIES = (-0.9, 0.05, range(37))
_TRIES = {15: (-1.0, 0.1, range(21)), 31: (-0.5, 0.1, range(16))}
"""By largest code: what the plain search of Q4_K and of Q5_K tries."""


def encode_q4_k(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q4_K`."""
    head, codes = _affine(rows, importance, 15)
    return torch.cat([head, _nibbles(codes)], 1)


def encode_q5_k(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q5_K`."""
    head, codes = _affine(rows, importance, 31)
    fifth = ((codes >> 4) << _shifts(8, 1, codes.device)).sum(1, dtype=torch.uint8)
    return torch.cat([head, fifth, _nibbles(codes & 15)], 1)


def encode_q6_k(rows: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """`quantize_q6_K`."""
    x = columns(rows, 16)
    weights = x * x if importance is None else importance_columns(importance, 16, x.shape[1])
    scale, codes = fit_symmetric(x, weights, 32)
    d, scale_codes, zero = _eight_bits(scale.reshape(-1, 16))
    codes = _refine(codes, x, (half_values(d) * scale_codes).reshape(-1), -32, 31)
    codes.masked_fill_(zero.repeat_interleave(16), 0.0)
    groups = codes.T.reshape(-1, 2, 4, 32).to(torch.uint8)
    lower = groups & 15
    lower = lower[:, :, :2] | (lower[:, :, 2:] << 4)
    upper = ((groups >> 4) << _shifts(4, 2, codes.device)).sum(2, dtype=torch.uint8)
    return torch.cat([lower.flatten(1), upper.flatten(1), scale_codes.to(torch.int8).view(torch.uint8), d], 1)


def _affine(rows: torch.Tensor, importance: torch.Tensor | None, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """d, dmin and the 6-bit codes as bytes [n, 16]; codes uint8 [n, 8, 32] in 0..top."""
    x = columns(rows, 32)
    if importance is None:
        weights = square_root(divide(ordered_sum(x * x), 32.0)) + x.abs()
        scale, minimum, codes = fit_affine(x, weights, top, numerators(top, *_TRIES[top]))
        d, scale_codes = _six_bits(scale.reshape(-1, 8))
        dmin, minimum_codes = _six_bits(-minimum.reshape(-1, 8))
    else:
        energy = divide(2 * ordered_sum(columns(rows * rows, _SIZE)), float(_SIZE)).repeat_interleave(8)
        weights = importance_columns(importance, 32, x.shape[1]) * square_root(energy + x * x)
        scale, minimum, codes = fit_affine(x, weights, top, numerators(top, *_WEIGHTED_TRIES))
        sums = ordered_sum(weights)
        d, scale_codes = _weighted_six_bits(scale, sums)
        dmin, minimum_codes = _weighted_six_bits(-minimum, sums)
    packed = _pack_six_bits(scale_codes, minimum_codes)
    scale_codes, minimum_codes = _unpack_six_bits(packed)
    offset = (half_values(dmin) * minimum_codes).reshape(-1)
    codes = _refine(codes, x + offset, (half_values(d) * scale_codes).reshape(-1), 0, top)
    return torch.cat([d, dmin, packed], 1), codes.T.reshape(-1, 8, 32).to(torch.uint8)


def _refine(codes: torch.Tensor, wanted: torch.Tensor, step: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Codes [m, n] nearest to wanted / step in low..high, counted from low, now that the step [n] is rounded; 0 keeps the old."""
    return torch.where(step == 0, codes, nearest(wanted / step).clamp_(low, high).sub_(low))


def _six_bits(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [n, 8] -> (largest / 63 as float16 bytes [n, 2], codes float32 [n, 8] in 0..63)."""
    largest = values.amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.zeros_like(largest))
    inverse = torch.where(largest > 0, divide(63.0, largest), torch.zeros_like(largest))
    codes = nearest(values * inverse).remainder(256.0).clamp_max_(63)  # C casts to uint8 before it compares
    return half_bytes(divide(largest, 63.0)), codes


def _weighted_six_bits(values: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [8 n] twice -> (scale as float16 bytes [n, 2], codes float32 [n, 8] in 0..63)."""
    scale, codes = fit_scales(columns(values, 8), columns(weights, 8), 63)
    return half_bytes(scale), codes.T


def _eight_bits(scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float32 [n, 16] -> (the largest / -128 as float16 bytes [n, 2], codes float32 [n, 16] in -128..127, whether all are 0 [n])."""
    size = scale.abs().nan_to_num_(0.0, torch.inf)  # C's comparisons pass over NaN, from squares that overflow
    peak = scale.gather(1, size.argmax(1, keepdim=True))
    zero = size.amax(1, keepdim=True) < EPSILON
    inverse = divide(-128.0, torch.where(zero, torch.ones_like(peak), peak))
    codes = nearest(scale * inverse).clamp_max_(127).masked_fill_(zero, 0.0)
    return half_bytes(divide(1.0, inverse).masked_fill_(zero, 0.0)), codes, zero[:, 0]


def _pack_six_bits(scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
    """Codes 0..63 [n, 8] twice -> uint8 [n, 12]: the first four of each, whose upper two bits hold those of the last four."""
    s, m = scale.to(torch.uint8), minimum.to(torch.uint8)
    first_s, last_s, first_m, last_m = s[:, :4], s[:, 4:], m[:, :4], m[:, 4:]
    low = (last_s & 15) | ((last_m & 15) << 4)
    return torch.cat([first_s | (last_s >> 4 << 6), first_m | (last_m >> 4 << 6), low], 1)


def _unpack_six_bits(data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [n, 12] -> float32 [n, 8] twice."""
    s, m, low = data[:, :4], data[:, 4:8], data[:, 8:]
    scale = torch.cat([s & 63, (low & 15) | (s >> 6 << 4)], 1)
    minimum = torch.cat([m & 63, (low >> 4) | (m >> 6 << 4)], 1)
    return scale.float(), minimum.float()


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 8, 32] in 0..15 -> [n, 128]: sub-blocks in pairs, the first in the lower halves."""
    return (codes[:, ::2] | (codes[:, 1::2] << 4)).flatten(1)


def _shifts(count: int, step: int, device: torch.device) -> torch.Tensor:
    """0, step, 2 step ... as uint8 [count, 1]."""
    return torch.arange(0, count * step, step, dtype=torch.uint8, device=device)[:, None]


def decode_q4_k(data: torch.Tensor) -> torch.Tensor:
    """Q4_K."""
    return _decode_affine(data, _sub_blocks(data[:, 16:]))


def decode_q5_k(data: torch.Tensor) -> torch.Tensor:
    """Q5_K."""
    fifth = (data[:, None, 16:48] >> _shifts(8, 1, data.device)) & 1
    return _decode_affine(data, _sub_blocks(data[:, 48:]) | (fifth << 4))


def decode_q6_k(data: torch.Tensor) -> torch.Tensor:
    """Q6_K."""
    lower, upper = data[:, :128].reshape(-1, 2, 2, 32), data[:, 128:192].reshape(-1, 2, 1, 32)
    lower = torch.cat([lower & 15, lower >> 4], 2)
    codes = lower | (((upper >> _shifts(4, 2, data.device)) & 3) << 4)
    scale = half_values(data[:, 208:]) * data[:, 192:208].contiguous().view(torch.int8)
    return (codes.reshape(-1, 16, 16).float() - 32) * scale[:, :, None]


def _sub_blocks(nibbles: torch.Tensor) -> torch.Tensor:
    """The inverse of `_nibbles`."""
    pairs = nibbles.reshape(-1, 4, 1, 32)
    return torch.cat([pairs & 15, pairs >> 4], 2).reshape(-1, 8, 32)


def _decode_affine(data: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    scale, minimum = _unpack_six_bits(data[:, 4:16])
    step, offset = half_values(data[:, :2]) * scale, half_values(data[:, 2:4]) * minimum
    return codes.float() * step[:, :, None] - offset[:, :, None]
