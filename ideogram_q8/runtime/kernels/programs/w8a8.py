"""The W8A8 linear in two Triton programs: rows of activations to int8, and the integer product with its epilogue.

B is loaded as [BN, BK] and transposed in the product. Read as [BK, BN] through swapped strides, Triton 3.8 and 3.9 turn the inner
loop for sm_86 into hundreds of byte shuffles that spill; tests/runtime/kernels/test_aot.py counts.

Launch with `enable_fp_fusion=False`, so that the epilogue rounds as its definition does.
"""

# mypy: ignore-errors
# ruff: noqa: N803
# (Triton reads these functions as a language of its own, in which constants are capitals and branches are pruned.)

from __future__ import annotations

import triton
import triton.language as tl

from ideogram_q8.runtime.kernels.programs.blocks import to_codes


@triton.jit
def quantize_rows(x, codes, scale, width, BLOCK: tl.constexpr):
    """One row a program: float [rows, width] -> int8 codes and amax / 127 as float32, 1 for a row of zeros. width <= BLOCK."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < width
    values = tl.load(x + row * width + column, mask=there, other=0.0).to(tl.float32)
    step = tl.div_rn(tl.max(tl.abs(values), 0), tl.full((), 127.0, tl.float32))
    step = tl.where(step == 0.0, 1.0, step)
    tl.store(codes + row * width + column, to_codes(values, tl.broadcast_to(step, values.shape)), mask=there)
    tl.store(scale + row, step)


@triton.jit
def matmul(
    a,
    b,
    out,
    row_scale,
    scale,
    bias,
    M,
    N,
    K,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN_K: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """int8 a [M, K], b [N, K], both contiguous -> out [M, N] = acc * row_scale * scale + bias; int32 `out` gets acc itself.

    Rows beyond M and N wrap around when loaded and are masked when stored. Programs go GROUP row tiles at a time down each column of
    tiles, so that those running together share what they read through L2.
    """
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    in_group = GROUP * tiles_n
    group, rest = tl.program_id(0) // in_group, tl.program_id(0) % in_group
    height = min(tiles_m - group * GROUP, GROUP)
    rows = (group * GROUP + rest % height) * BM + tl.arange(0, BM)
    columns = (rest // height) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a_at = a + (rows % M)[:, None] * K + k[None, :]
    b_at = b + (columns % N)[:, None] * K + k[None, :]
    acc = tl.zeros((BM, BN), tl.int32)
    for start in range(0, K, BK):
        if EVEN_K:
            acc = tl.dot(tl.load(a_at), tl.load(b_at).T, acc, out_dtype=tl.int32)
        else:
            there = (k < K - start)[None, :]
            acc = tl.dot(tl.load(a_at, mask=there, other=0), tl.load(b_at, mask=there, other=0).T, acc, out_dtype=tl.int32)
        a_at += BK
        b_at += BK
    at = out + rows[:, None].to(tl.int64) * N + columns[None, :]
    there = (rows < M)[:, None] & (columns < N)[None, :]
    if out.dtype.element_ty == tl.int32:
        tl.store(at, acc, mask=there)
    else:
        y = acc.to(tl.float32) * tl.load(row_scale + rows % M)[:, None] * tl.load(scale + columns % N)[None, :]
        if HAS_BIAS:
            y += tl.load(bias + columns % N).to(tl.float32)[None, :]
        tl.store(at, y.to(out.dtype.element_ty), mask=there)
