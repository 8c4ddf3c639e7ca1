"""Attention with int8 scores in Triton: queries and keys to codes, and a pass over the keys that keeps no score (`numerics.attention`).

Softmax is computed as the keys go by (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135): the largest score so
far, and sums to be divided at the end that are scaled down whenever a larger one comes.
"""

# mypy: ignore-errors
# ruff: noqa: N803
# (Triton reads these functions as a language of its own, in which constants are capitals and branches are pruned.)

from __future__ import annotations

import triton
import triton.language as tl

from ideogram_q8.runtime.kernels.programs.blocks import to_codes

_SMALLEST = tl.constexpr(2.0**-100)
"""`numerics.rotation`'s: groups below are rounded like those with such a peak."""


@triton.jit
def _reversed(digits):
    """[n, 4, w] with the second axis from its other end: its two bits turned over, one after the other."""
    n: tl.constexpr = digits.shape[0]
    w: tl.constexpr = digits.shape[2]
    bits = tl.permute(tl.reshape(digits, (n, 2, 2, w)), (0, 3, 1, 2))
    zero, one = tl.split(bits)
    bits = tl.permute(tl.join(one, zero), (0, 1, 3, 2))
    zero, one = tl.split(bits)
    return tl.reshape(tl.permute(tl.join(one, zero), (0, 3, 2, 1)), (n, 4, w))


@triton.jit
def rotated(values, ROWS: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """`numerics.rotation.rotate_` of float32 [ROWS, WIDTH]: the same bits, for its sums are exact in any order."""
    groups = tl.reshape(values, (ROWS * WIDTH // GROUP, GROUP))
    peak = tl.max(tl.abs(groups), 1)
    power = (peak.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    shift = (tl.maximum(power, _SMALLEST) * (1.5 * GROUP))[:, None]
    groups = (groups + shift) - shift
    for stage in tl.static_range(STAGES):
        # a row of H4 is ones but for one place, counted from the other end
        digits = tl.reshape(groups, (ROWS * WIDTH >> (2 * stage + 2), 4, 1 << (2 * stage)))
        groups = tl.sum(digits, 1)[:, None, :] - 2.0 * _reversed(digits)
    return tl.reshape(groups, (ROWS, WIDTH)) * (1.0 / (1 << STAGES))


@triton.jit
def quantize_heads(
    x,
    mean,
    codes,
    scale,
    tokens,
    heads,
    batch_stride,
    head_stride,
    token_stride,
    factor,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    STAGES: tl.constexpr,
    HAS_MEAN: tl.constexpr,
):
    """ROWS tokens of one head a program: float x -> codes [batch * heads, tokens, WIDTH], amax / 127 times factor [.., tokens].

    `mean` float32 [batch * heads, WIDTH] is taken away first. Launch with `enable_fp_fusion=False`.
    """
    head = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    there = (row < tokens)[:, None]
    start = x + (head // heads).to(tl.int64) * batch_stride + (head % heads).to(tl.int64) * head_stride
    at = start + row[:, None].to(tl.int64) * token_stride + column[None, :]
    values = tl.load(at, mask=there, other=0.0).to(tl.float32)
    if HAS_MEAN:
        values -= tl.load(mean + head * WIDTH + column)[None, :]
    if STAGES > 0:
        values = rotated(values, ROWS, WIDTH, GROUP, STAGES)
    step = tl.div_rn(tl.max(tl.abs(values), 1), tl.full((ROWS,), 127.0, tl.float32))
    step = tl.where(step == 0.0, 1.0, step)
    out = head.to(tl.int64) * tokens + row
    tl.store(
        codes + out[:, None] * WIDTH + column[None, :],
        to_codes(values, tl.broadcast_to(step[:, None], values.shape)),
        mask=there,
    )
    tl.store(scale + out, step * factor, mask=row < tokens)


@triton.jit
def attend(
    queries,
    query_scale,
    keys,
    key_scale,
    values,
    factor,
    out,
    query_tokens,
    tokens,
    heads,
    WIDTH: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    EVEN: tl.constexpr,
    HALF_SUMS: tl.constexpr,
):
    """BM queries of one head a program; keys BN at a time.

    int8 queries [batch * heads, query_tokens, WIDTH] and keys [.., tokens, WIDTH] with scales [.., tokens], float16 values [.., tokens,
    WIDTH] and their factor [.., WIDTH] -> out [batch, query_tokens, heads, WIDTH]. EVEN: tokens are a multiple of BN. With HALF_SUMS, BN
    products of a weight and a value are summed in float16, and those sums in float32.
    """
    head = tl.program_id(1)
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.arange(0, WIDTH)
    k = tl.arange(0, BN)
    first = head.to(tl.int64) * query_tokens
    own = tl.load(queries + first * WIDTH + (row % query_tokens)[:, None] * WIDTH + column[None, :])
    own_scale = tl.load(query_scale + first + row % query_tokens)
    begin = head.to(tl.int64) * tokens
    keys_at = keys + begin * WIDTH + k[:, None] * WIDTH + column[None, :]
    values_at = values + begin * WIDTH + k[:, None] * WIDTH + column[None, :]
    scale_at = key_scale + begin + k
    largest = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    sums = tl.zeros((BM, WIDTH), tl.float32)
    for start in range(0, tokens, BN):
        if EVEN:
            scores = tl.dot(own, tl.load(keys_at).T, out_dtype=tl.int32).to(tl.float32)
            scores = scores * own_scale[:, None] * tl.load(scale_at)[None, :]
            value = tl.load(values_at)
        else:
            there = k < tokens - start
            codes = tl.load(keys_at, mask=there[:, None], other=0)
            scores = tl.dot(own, codes.T, out_dtype=tl.int32).to(tl.float32)
            scores = scores * own_scale[:, None] * tl.load(scale_at, mask=there, other=0.0)[None, :]
            scores += tl.where(there, 0.0, float("-inf"))[None, :]  # one instruction with the product, the same bits
            value = tl.load(values_at, mask=there[:, None], other=0.0)
        now = tl.maximum(largest, tl.max(scores, 1))
        shrink = tl.exp2(largest - now)
        weights = tl.exp2(scores - now[:, None])
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None]
        if HALF_SUMS:
            sums += tl.dot(weights.to(tl.float16), value, out_dtype=tl.float16).to(tl.float32)
        else:
            sums = tl.dot(weights.to(tl.float16), value, sums)
        largest = now
        keys_at += BN * WIDTH
        values_at += BN * WIDTH
        scale_at += BN
    by = tl.load(factor + head * WIDTH + column)
    found = sums / (total[:, None] * by[None, :])
    place = ((head // heads).to(tl.int64) * query_tokens + row) * heads + head % heads
    tl.store(out + place[:, None] * WIDTH + column[None, :], found.to(out.dtype.element_ty), mask=(row < query_tokens)[:, None])
