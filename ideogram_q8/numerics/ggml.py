"""ggml's block formats Q8_0 and Q4_K: encoding follows ggml's reference quantizers, decoding equals gguf-py.

Read from ggml-quants.c (MIT): `quantize_row_q8_0_ref`, `quantize_row_q4_K_ref`, `make_qkx2_quants`. Sums run in ggml's order, one
element after the other, so that bytes depend on no device and no thread count. They equal those of ggml's C compiled without
fused multiply-add (`-ffp-contract=off`); a ggml compiled with it differs from its own source in about one block of 20.

    Q8_0  32 values   float16 d | int8 q[32]                                        value = d q
    Q4_K  256 values  float16 d, dmin | 8 scales, 8 minima of 6 bits | 4-bit q[256]   value = d scale q - dmin minimum
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Block:
    """A block format: `block_size` values stored in `type_size` bytes; `gguf_type` is its number in GGUF files."""

    name: str
    gguf_type: int
    block_size: int
    type_size: int

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` values, a multiple of block_size."""
        return width // self.block_size * self.type_size


BLOCKS: Mapping[str, Block] = {"q8_0": Block("q8_0", 8, 32, 34), "q4_k": Block("q4_k", 12, 256, 144)}

_CHUNK = 1 << 17
"""Values encoded at a time: what the many passes of the Q4_K search touch stays in cache."""


def encode(values: torch.Tensor, block: Block) -> torch.Tensor:
    """float32 [..., K] -> uint8 [..., K / block_size * type_size].

    Raises:
        ValueError: K is not a multiple of the block size.
    """
    *rows, width = values.shape
    if width % block.block_size:
        raise ValueError(f"rows have {width} values; {block.name} stores multiples of {block.block_size}")
    blocks = values.float().reshape(-1, block.block_size)
    parts = [_ENCODERS[block.name](part) for part in blocks.split(_CHUNK // block.block_size)]
    return torch.cat(parts).reshape(*rows, block.row_bytes(width))


def decode(data: torch.Tensor, block: Block) -> torch.Tensor:
    """uint8 [..., B] -> float32 [..., B / type_size * block_size].

    Raises:
        ValueError: B is not a multiple of the type size.
    """
    *rows, size = data.shape
    if size % block.type_size:
        raise ValueError(f"rows have {size} bytes; {block.name} needs multiples of {block.type_size}")
    values = _DECODERS[block.name](data.reshape(-1, block.type_size))
    return values.reshape(*rows, size // block.type_size * block.block_size)


def _encode_q8_0(blocks: torch.Tensor) -> torch.Tensor:
    d = _divide(blocks.abs().amax(1, keepdim=True), 127.0)
    inverse = d.reciprocal()
    scaled = blocks * torch.where(inverse.isinf(), torch.zeros_like(inverse), inverse)
    whole = scaled.abs().floor()
    codes = scaled.sign() * (whole + (2 * (scaled.abs() - whole)).floor())  # C's roundf: halves away from zero
    return torch.cat([_half_bytes(d), codes.to(torch.int8).view(torch.uint8)], 1)


def _decode_q8_0(data: torch.Tensor) -> torch.Tensor:
    return data[:, 2:].contiguous().view(torch.int8).float() * _half_values(data[:, :2])


def _encode_q4_k(blocks: torch.Tensor) -> torch.Tensor:
    count = len(blocks)
    x = blocks.reshape(-1, 32).T.contiguous()  # [32, 8 * count]: sums over a sub-block are sums over rows
    mean_square = (_sum(x * x) / 32).double()  # torch's float32 square root is off by a unit in the last place on some CPUs
    weights = mean_square.sqrt().float() + x.abs()
    scale, minimum, codes = _fit(x, weights)
    d, scale_codes = _six_bits(scale.reshape(count, 8))
    dmin, minimum_codes = _six_bits(minimum.reshape(count, 8))
    step = (_half_values(d) * scale_codes).reshape(-1)
    offset = (_half_values(dmin) * minimum_codes).reshape(-1)
    refined = ((x + offset) / step).round().clamp(0, 15)
    codes = torch.where(step == 0, codes, refined)
    pairs = codes.T.reshape(count, 4, 2, 32).to(torch.uint8)
    nibbles = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(count, 128)
    return torch.cat([d, dmin, _pack_six_bits(scale_codes, minimum_codes), nibbles], 1)


def _fit(x: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`make_qkx2_quants`: the scale, minimum and codes 0..15 of each column with the least weighted square error among 22 tries.

    float32 [32, n] twice -> scale [n], minus the minimum [n] (not negative), codes float32 [32, n].
    """
    sum_w, sum_x = _sum(weights), _sum(weights * x)
    low, high = x.amin(0).clamp_max(0), x.amax(0)
    span = high - low
    inverse = torch.full_like(span, 15.0) / span
    scale, minimum = inverse.reciprocal(), low
    codes = ((x - low) * inverse).round().clamp(0, 15)
    error = _sum(weights * (scale * codes + minimum - x).square())
    for numerator in (torch.arange(21) * 0.1 - 1.0 + 15.0).tolist():
        inverse_tried = torch.full_like(span, numerator) / (high - minimum)  # from the best minimum so far, as ggml does
        tried = ((x - minimum) * inverse_tried).round().clamp(0, 15)
        weighted = weights * tried
        sum_l, sum_l2, sum_xl = _sum(weighted), _sum(weighted * tried), _sum(weighted * x)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        new_scale = torch.where(new_minimum > 0, sum_xl / sum_l2, new_scale)
        new_minimum = new_minimum.clamp_max(0)
        new_error = _sum(weights * (new_scale * tried + new_minimum - x).square())
        better = (determinant > 0) & (new_error < error)
        scale = torch.where(better, new_scale, scale)
        minimum = torch.where(better, new_minimum, minimum)
        codes = torch.where(better, tried, codes)
        error = torch.where(better, new_error, error)
    flat = inverse.isinf()  # one value only, or values too close for float32
    zero = torch.zeros_like(scale)
    return torch.where(flat, zero, scale), -torch.where(flat, low, minimum), torch.where(flat, zero, codes)


def _six_bits(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [n, 8], not negative -> (largest / 63 as float16 bytes [n, 2], codes float32 [n, 8] in 0..63)."""
    largest = values.amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.zeros_like(largest))  # -0.0 becomes 0.0
    inverse = torch.full_like(largest, 63.0) / largest
    inverse = torch.where(largest > 0, inverse, torch.zeros_like(inverse))
    return _half_bytes(_divide(largest, 63.0)), (values * inverse).round().clamp(0, 63)


def _pack_six_bits(scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
    """Codes 0..63 [n, 8] twice -> uint8 [n, 12]: the first four of each, whose upper two bits hold those of the last four."""
    s, m = scale.to(torch.uint8), minimum.to(torch.uint8)
    first_s, last_s, first_m, last_m = s[:, :4], s[:, 4:], m[:, :4], m[:, 4:]
    low = (last_s & 15) | ((last_m & 15) << 4)
    return torch.cat([first_s | (last_s >> 4 << 6), first_m | (last_m >> 4 << 6), low], 1)


def _decode_q4_k(data: torch.Tensor) -> torch.Tensor:
    s, m, low = data[:, 4:8], data[:, 8:12], data[:, 12:16]
    scale = torch.cat([s & 63, (low & 15) | (s >> 6 << 4)], 1).float()
    minimum = torch.cat([m & 63, (low >> 4) | (m >> 6 << 4)], 1).float()
    nibbles = data[:, 16:].reshape(-1, 4, 1, 32)
    codes = torch.cat([nibbles & 15, nibbles >> 4], 2).reshape(-1, 8, 32).float()
    step, offset = _half_values(data[:, :2]) * scale, _half_values(data[:, 2:4]) * minimum
    return codes * step[:, :, None] - offset[:, :, None]


def _sum(rows: torch.Tensor) -> torch.Tensor:
    """[32, n] -> [n], added from the first row to the last."""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total


def _divide(values: torch.Tensor, divisor: float) -> torch.Tensor:
    """Rounded once; `values / divisor` multiplies by a rounded reciprocal on CUDA."""
    return values / torch.full_like(values, divisor)


def _half_bytes(values: torch.Tensor) -> torch.Tensor:
    """float32 [n, 1] -> float16 as uint8 [n, 2]."""
    return values.half().view(torch.uint8)


def _half_values(data: torch.Tensor) -> torch.Tensor:
    """The inverse: uint8 [n, 2] -> float32 [n, 1]."""
    return data.contiguous().view(torch.float16).float()


_ENCODERS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"q8_0": _encode_q8_0, "q4_k": _encode_q4_k}
_DECODERS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"q8_0": _decode_q8_0, "q4_k": _decode_q4_k}
