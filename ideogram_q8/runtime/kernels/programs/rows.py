"""Programs that go over rows of activations once: what lies between two integer products, so that it is read and written once. And
one over all values of the latents: what lies between two steps.

Each rounds to the dtype of the activations where its definition in plain torch does (`kernels.prologue`, `kernels.fused`). Launch with
`enable_fp_fusion=False`. A row's mean square is summed in float32, in Triton's order.
"""

# mypy: ignore-errors
# ruff: noqa: N803
# (Triton reads these functions as a language of its own, in which constants are capitals and branches are pruned.)

from __future__ import annotations

import triton
import triton.language as tl

from ideogram_q8.runtime.kernels.programs.attention import rotated
from ideogram_q8.runtime.kernels.programs.blocks import to_codes


@triton.jit
def _rounded(values, like):
    """float32 values as the dtype that `like` points to has them."""
    return values.to(like.dtype.element_ty).to(tl.float32)


@triton.jit
def _normalized(x, factor, there, column, width, eps, values):
    """A row of float32 `values`, zeros beyond `width`, over the root of its mean square, times `factor`; rounded once."""
    mean = tl.div_rn(tl.sum(values * values, 0), width.to(tl.float32))
    root = tl.div_rn(tl.full((), 1.0, tl.float32), tl.sqrt_rn(mean + eps))
    return _rounded(values * root * tl.load(factor + column, mask=there, other=0.0).to(tl.float32), x)


@triton.jit
def _turned(values, like, BLOCK: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """`numerics.rotation.rotate` of a row of BLOCK float32 values, by groups of GROUP; the row as it is where STAGES is 0."""
    if STAGES > 0:
        values = tl.reshape(rotated(tl.reshape(values, (1, BLOCK)), 1, BLOCK, GROUP, STAGES), (BLOCK,))
        values = _rounded(values, like)
    return values


@triton.jit
def _store_codes(codes, scale, row, column, there, width, values):
    step = tl.div_rn(tl.max(tl.abs(values), 0), tl.full((), 127.0, tl.float32))
    step = tl.where(step == 0.0, 1.0, step)
    tl.store(codes + row * width + column, to_codes(values, tl.broadcast_to(step, values.shape)), mask=there)
    tl.store(scale + row, step)


@triton.jit
def rotate_and_quantize(x, codes, scale, width, BLOCK: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """One row a program: float [rows, width] -> codes and amax / 127 of the rotated row. width <= BLOCK, a multiple of GROUP."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < width
    values = tl.load(x + row * width + column, mask=there, other=0.0).to(tl.float32)
    _store_codes(codes, scale, row, column, there, width, _turned(values, x, BLOCK, GROUP, STAGES))


@triton.jit
def normalize_and_quantize(x, factor, codes, scale, width, eps, BLOCK: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """One row a program: float [rows, width], factor [width] -> codes and amax / 127 of the normalized row, rotated where STAGES is not 0.

    width <= BLOCK, where it is rotated a multiple of GROUP.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < width
    values = tl.load(x + row * width + column, mask=there, other=0.0).to(tl.float32)
    normal = _normalized(x, factor, there, column, width, eps, values)
    _store_codes(codes, scale, row, column, there, width, _turned(normal, x, BLOCK, GROUP, STAGES))


@triton.jit
def gate_and_quantize(x, codes, scale, width, BLOCK: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr):
    """One row a program: float [rows, 2 * width] = [gate | up] -> codes and amax / 127 of silu(gate) * up, rotated where STAGES is not 0.

    width <= BLOCK, where it is rotated a multiple of GROUP.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < width
    gate = tl.load(x + row * 2 * width + column, mask=there, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * width + width + column, mask=there, other=0.0).to(tl.float32)
    gated = _rounded(tl.div_rn(gate, 1.0 + tl.exp(-gate)), x)
    _store_codes(codes, scale, row, column, there, width, _turned(_rounded(gated * up, x), x, BLOCK, GROUP, STAGES))


@triton.jit
def add_normalized(residual, x, factor, width, eps, BLOCK: tl.constexpr):
    """One row a program: residual [rows, width] += the normalized row of x [rows, width]. width <= BLOCK."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < width
    values = tl.load(x + row * width + column, mask=there, other=0.0).to(tl.float32)
    added = _normalized(x, factor, there, column, width, eps, values)
    at = residual + row * width + column
    tl.store(at, (tl.load(at, mask=there, other=0.0).to(tl.float32) + added).to(residual.dtype.element_ty), mask=there)


@triton.jit
def place_heads(x, factor, cos, sin, token_stride, half, eps, HEADS: tl.constexpr, HALF: tl.constexpr):
    """One token a program, in place: x [tokens, HEADS, 2 * half], tokens `token_stride` apart, normalized by head and turned.

    cos, sin [tokens, 2 * half]; the first half of the sines is negative. A head's halves are the two coordinates of what turns.
    half <= HALF.
    """
    token = tl.program_id(0).to(tl.int64)
    first = tl.arange(0, HALF)
    there = first < half
    second = first + half
    turn = token * 2 * half
    factor_first = tl.load(factor + first, mask=there, other=0.0).to(tl.float32)
    factor_second = tl.load(factor + second, mask=there, other=0.0).to(tl.float32)
    cos_first = tl.load(cos + turn + first, mask=there, other=0.0).to(tl.float32)
    cos_second = tl.load(cos + turn + second, mask=there, other=0.0).to(tl.float32)
    sin_first = tl.load(sin + turn + first, mask=there, other=0.0).to(tl.float32)
    sin_second = tl.load(sin + turn + second, mask=there, other=0.0).to(tl.float32)
    for head in range(HEADS):
        at = x + token * token_stride + head * 2 * half
        a = tl.load(at + first, mask=there, other=0.0).to(tl.float32)
        b = tl.load(at + second, mask=there, other=0.0).to(tl.float32)
        mean = tl.div_rn(tl.sum(a * a + b * b, 0), (2 * half).to(tl.float32))
        root = tl.div_rn(tl.full((), 1.0, tl.float32), tl.sqrt_rn(mean + eps))
        a = _rounded(a * root * factor_first, x)
        b = _rounded(b * root * factor_second, x)
        tl.store(at + first, (_rounded(a * cos_first, x) + b * sin_first).to(x.dtype.element_ty), mask=there)
        tl.store(at + second, (_rounded(b * cos_second, x) + a * sin_second).to(x.dtype.element_ty), mask=there)


@triton.jit
def guided_step(latents, unconditional, conditional, velocity, moved, count, guidance, step, BLOCK: tl.constexpr):
    """BLOCK of `count` values a program: velocity = lerp(unconditional, conditional, guidance), moved = latents + step * velocity.

    From the nearer end, and each product and sum rounded once, as torch's lerp and add have them on CPUs and on GPUs.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < count
    start = tl.load(unconditional + at, mask=there, other=0.0).to(tl.float32)
    end = tl.load(conditional + at, mask=there, other=0.0).to(tl.float32)
    is_first = tl.abs(guidance) < 0.5
    weight = tl.zeros((BLOCK,), tl.float32) + tl.where(is_first, guidance, guidance - 1.0)
    found = _rounded(tl.fma(end - start, weight, tl.where(is_first, start, end)), velocity)
    tl.store(velocity + at, found.to(velocity.dtype.element_ty), mask=there)
    place = tl.load(latents + at, mask=there, other=0.0).to(tl.float32)
    place = tl.fma(found, tl.zeros((BLOCK,), tl.float32) + step, place)
    tl.store(moved + at, place.to(moved.dtype.element_ty), mask=there)
