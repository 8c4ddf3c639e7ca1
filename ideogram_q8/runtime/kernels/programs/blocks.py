"""ggml's blocks to float values or int8 codes, in Triton: the same operations in the same order as `numerics.ggml`, so the same bits.

The weight is one run of blocks, whatever its shape. A program takes `BLOCKS` of them and reads each byte once: where a byte
holds two values, it stores two tiles. `data` and `halves` are the same memory as uint8 and as float16.

Launch with `enable_fp_fusion=False`: a fused multiply-add that is not written as one would round less often than the definition.
"""

# mypy: ignore-errors
# ruff: noqa: N803, RET505
# (Triton reads these functions as a language of its own, in which constants are capitals and branches are pruned.)

from __future__ import annotations

import triton
import triton.language as tl

_TABLE_LOW = tl.constexpr(0xF6EADDCFBFAD9881 - (1 << 64))
"""IQ4_NL's first eight values, -127 -104 -83 -65 -49 -35 -22 -10, a byte each."""
_TABLE_HIGH = tl.constexpr(0x7159453526190D01)
"""The others: 1 13 25 38 53 69 89 113."""
_NEAREST = tl.constexpr(12582912.0)
"""1.5 * 2^23: a number of at most 2^22 added to it is rounded to the nearest even integer, which the lower bits of the sum are."""


@triton.jit
def _codes_of_quotients(quotients):
    """float32 to the nearest even integer in -127..127, as int8, without a conversion, of which a card has few units."""
    within = tl.minimum(tl.maximum(quotients, -127.0), 127.0)
    return (within + _NEAREST).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit
def to_codes(values, scale):
    """`numerics.int8`'s codes of float32 values: divided by the scale, rounded to nearest even, -127..127."""
    return _codes_of_quotients(tl.div_rn(values, scale))


@triton.jit
def to_codes_by_reciprocal(values, scale):
    """`to_codes` of float32 [blocks, ...] with a division for each scale, not for each value: scales [blocks, 1..] from 2^-100 to 2^100.

    `near` is up to 1.5 units in the last place off the quotient. What it leaves of the value is exact and corrects it to within 2^-46 of
    itself (Markstein, Computation of elementary functions on the IBM RISC System/6000 processor, 1990). No quotient of two float32 numbers
    is so close to a place where the code changes that it gets another code (tests/runtime/kernels/test_reciprocal.py).
    """
    reciprocal = tl.broadcast_to(tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), scale), values.shape)
    near = values * reciprocal
    left = tl.fma(near, tl.broadcast_to(-scale, values.shape), values)
    return _codes_of_quotients(tl.fma(left, reciprocal, near))


@triton.jit
def _store(out, scale, block, inside, values, there, BLOCKS_PER_ROW: tl.constexpr, SIZE: tl.constexpr, TO_CODES: tl.constexpr):
    """Values [blocks, ...] at their places: `block` and `inside` broadcast to the same shape.

    A row's scale is 1 or at least 2^-31: the largest of its values is a multiple of 2^-24, as all float16 numbers are.
    """
    if TO_CODES:
        row_scale = tl.load(scale + block // BLOCKS_PER_ROW, mask=there, other=1.0)
        tl.store(out + block * SIZE + inside, to_codes_by_reciprocal(values, row_scale), mask=there)
    else:
        tl.store(out + block * SIZE + inside, values.to(out.dtype.element_ty), mask=there)


@triton.jit
def _block_numbers(BLOCKS: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)


@triton.jit
def q8_0(data, halves, out, scale, count, BLOCKS_PER_ROW: tl.constexpr, TO_CODES: tl.constexpr, BLOCKS: tl.constexpr):
    """34 bytes, 32 values."""
    block = _block_numbers(BLOCKS)[:, None]
    there = block < count
    inside = tl.arange(0, 32)[None, :]
    step = tl.load(halves + block * 17, mask=there, other=0.0).to(tl.float32)
    code = tl.load(data + block * 34 + 2 + inside, mask=there, other=0).to(tl.int8, bitcast=True)
    _store(out, scale, block, inside, code.to(tl.float32) * step, there, BLOCKS_PER_ROW, 32, TO_CODES)


@triton.jit
def _legacy_value(code, step, minimum, KIND: tl.constexpr):
    """One value of a 32-value type from its whole code: symmetric about 8 or 16, affine, or looked up."""
    if KIND == "q4_0":
        return (code.to(tl.float32) - 8.0) * step
    elif KIND == "q5_0":
        return (code.to(tl.float32) - 16.0) * step
    elif KIND == "iq4_nl":
        word = tl.where(code < 8, tl.full(code.shape, _TABLE_LOW, tl.int64), tl.full(code.shape, _TABLE_HIGH, tl.int64))
        entry = (word >> ((code & 7) * 8).to(tl.int64)).to(tl.int8)
        return entry.to(tl.float32) * step
    else:
        return code.to(tl.float32) * step + minimum


@triton.jit
def legacy(
    data,
    halves,
    out,
    scale,
    count,
    BLOCKS_PER_ROW: tl.constexpr,
    TO_CODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    KIND: tl.constexpr,
    BYTES: tl.constexpr,
    AFFINE: tl.constexpr,
    FIFTH: tl.constexpr,
):
    """The 32-value types of 4 and 5 bits: a scale, with AFFINE a minimum, with FIFTH four bytes of fifth bits, 16 bytes of nibbles."""
    block = _block_numbers(BLOCKS)[:, None]
    there = block < count
    inside = tl.arange(0, 16)[None, :]
    step = tl.load(halves + block * (BYTES // 2), mask=there, other=0.0).to(tl.float32)
    minimum = step
    if AFFINE:
        minimum = tl.load(halves + block * (BYTES // 2) + 1, mask=there, other=0.0).to(tl.float32)
    pair = tl.load(data + block * BYTES + (BYTES - 16) + inside, mask=there, other=0).to(tl.int32)
    low, high = pair & 15, pair >> 4
    if FIFTH:
        bits = data + block * BYTES + (BYTES - 20)
        first = tl.load(bits + (inside >> 3), mask=there, other=0).to(tl.int32)
        second = tl.load(bits + 2 + (inside >> 3), mask=there, other=0).to(tl.int32)
        low |= ((first >> (inside & 7)) & 1) << 4
        high |= ((second >> (inside & 7)) & 1) << 4
    _store(out, scale, block, inside, _legacy_value(low, step, minimum, KIND), there, BLOCKS_PER_ROW, 32, TO_CODES)
    _store(out, scale, block, inside + 16, _legacy_value(high, step, minimum, KIND), there, BLOCKS_PER_ROW, 32, TO_CODES)


@triton.jit
def _six_bits(scales, part, there):
    """The scale and the minimum of sub-block `part` as float32: of the last four, upper bits lie above those of the first four."""
    first = part < 4
    scale = tl.load(scales + (part & 3), mask=there, other=0).to(tl.int32)
    minimum = tl.load(scales + 4 + (part & 3), mask=there, other=0).to(tl.int32)
    rest = tl.load(scales + 8 + (part & 3), mask=there, other=0).to(tl.int32)
    scale = tl.where(first, scale & 63, (rest & 15) | (scale >> 6 << 4))
    minimum = tl.where(first, minimum & 63, (rest >> 4) | (minimum >> 6 << 4))
    return scale.to(tl.float32), minimum.to(tl.float32)


@triton.jit
def k_affine(
    data,
    halves,
    out,
    scale,
    count,
    BLOCKS_PER_ROW: tl.constexpr,
    TO_CODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    BYTES: tl.constexpr,
    FIFTH: tl.constexpr,
):
    """Q4_K and, with FIFTH, Q5_K: eight sub-blocks of 32 values, a byte of nibbles for each two neighbours."""
    block = _block_numbers(BLOCKS)[:, None, None]
    there = block < count
    two = tl.arange(0, 4)[None, :, None]
    inside = tl.arange(0, 32)[None, None, :]
    start = data + block * BYTES
    d = tl.load(halves + block * (BYTES // 2), mask=there, other=0.0).to(tl.float32)
    d_minimum = tl.load(halves + block * (BYTES // 2) + 1, mask=there, other=0.0).to(tl.float32)
    pair = tl.load(start + (BYTES - 128) + two * 32 + inside, mask=there, other=0).to(tl.int32)
    fifth = tl.zeros_like(pair)
    if FIFTH:
        fifth += tl.load(start + 16 + inside, mask=there, other=0).to(tl.int32)
    for upper in tl.static_range(2):
        part = two * 2 + upper
        step, minimum = _six_bits(start + 4, part, there)
        code = ((pair >> (4 * upper)) & 15) | (((fifth >> part) & 1) << 4)
        values = code.to(tl.float32) * (d * step) - d_minimum * minimum
        _store(out, scale, block, part * 32 + inside, values, there, BLOCKS_PER_ROW, 256, TO_CODES)


@triton.jit
def q6_k(data, halves, out, scale, count, BLOCKS_PER_ROW: tl.constexpr, TO_CODES: tl.constexpr, BLOCKS: tl.constexpr):
    """210 bytes: two halves of four groups of 32 values; a byte has the lower bits of groups g and g + 2."""
    block = _block_numbers(BLOCKS)[:, None, None]
    there = block < count
    quarter = tl.arange(0, 4)[None, :, None]  # half, then the group's lower bit
    half, group = quarter >> 1, quarter & 1
    inside = tl.arange(0, 32)[None, None, :]
    start = data + block * 210
    d = tl.load(halves + block * 105 + 104, mask=there, other=0.0).to(tl.float32)
    pair = tl.load(start + quarter * 32 + inside, mask=there, other=0).to(tl.int32)
    uppers = tl.load(start + 128 + half * 32 + inside, mask=there, other=0).to(tl.int32)
    for upper in tl.static_range(2):
        g = group + 2 * upper
        place = half * 128 + g * 32 + inside
        sub = tl.load(start + 192 + (place >> 4), mask=there, other=0).to(tl.int8, bitcast=True).to(tl.float32)
        code = ((pair >> (4 * upper)) & 15) | (((uppers >> (2 * g)) & 3) << 4)
        values = (code.to(tl.float32) - 32.0) * (d * sub)
        _store(out, scale, block, place, values, there, BLOCKS_PER_ROW, 256, TO_CODES)
