"""The Triton programs against their definitions. Run by test_triton.py: under Triton's interpreter on a CPU, and as they are on a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from ideogram_q8.kernels import triton_ggml, triton_int8
from ideogram_q8.kernels.epilogue import scaled
from ideogram_q8.numerics import ggml, int8

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TILES = sorted({*triton_int8.AMPERE, *([] if INTERPRETED else triton_int8.CONFIGURATIONS[9])}, key=str)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def any_blocks(name: str, rows: int, width: int) -> torch.Tensor:
    """Bytes of every pattern, the scales of blocks finite."""
    block = ggml.BLOCKS[name]
    count = rows * width // block.block_size
    data = torch.randint(0, 256, (count, block.type_size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    for upper_byte_of_scale in (1, 3) if name != "q6_k" else (209,):
        data[:, upper_byte_of_scale] &= 0xBF
    return data.reshape(rows, -1).to(DEVICE)


def bfloat16(values: torch.Tensor) -> torch.Tensor:
    """Rounded as the device rounds: Triton's interpreter drops the lower bits where the machine code rounds to nearest."""
    return ((values.view(torch.int32) >> 16) << 16).view(torch.float32).bfloat16() if INTERPRETED else values.bfloat16()


@pytest.mark.parametrize("name", ggml.BLOCKS)
def test_expansion_gives_the_bits_of_the_definition(name: str) -> None:
    rows, width = 3, 768  # no multiple of what a program takes
    data, block = any_blocks(name, rows, width), ggml.BLOCKS[name]
    exact = ggml.decode(data, block)
    for dtype, expected in ((torch.float32, exact), (torch.float16, exact.half()), (torch.bfloat16, bfloat16(exact))):
        out = torch.full((rows + 1, width), 7.0, dtype=dtype, device=DEVICE)
        triton_ggml.expand(data, block, out[:rows])
        assert torch.equal(out[:rows].view(torch.uint8), expected.view(torch.uint8)), dtype
        assert (out[rows] == 7).all()


@pytest.mark.parametrize("name", ggml.BLOCKS)
def test_expansion_gives_the_codes_of_the_definition(name: str) -> None:
    data, block = any_blocks(name, 4, 512), ggml.BLOCKS[name]
    data[3] = 0  # a row of zeros
    codes, scale = int8.quantize_per_channel(ggml.decode(data, block))
    out = torch.empty_like(codes)
    triton_ggml.expand(data, block, out, scale)
    assert torch.equal(out, codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 200), (3, 4608)])
def test_rows_are_quantized_as_defined(rows: int, width: int, dtype: torch.dtype) -> None:
    x = (normal(rows, width) * torch.logspace(-3, 3, rows)[:, None]).to(DEVICE, dtype)
    x[-1] = 0
    x[0, 0] = -x[0].abs().max() * 2
    codes, scale = triton_int8.quantize_rows(x)
    expected_codes, expected_scale = int8.quantize_per_token(x)
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)


@pytest.mark.parametrize("tiles", TILES, ids=str)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(37, 200, 70), (130, 128, 264)])
def test_products_are_exact(tiles: triton_int8.Tiles, rows: int, inputs: int, outputs: int) -> None:
    codes, row_scale = int8.quantize_per_token(normal(rows, inputs, seed=2).to(DEVICE))
    weight, scale = int8.quantize_per_channel(normal(outputs, inputs, seed=3).to(DEVICE))
    bias = normal(outputs, seed=4).to(DEVICE)
    sums = triton_int8.matmul(codes, row_scale, weight, scale, None, torch.int32, tiles)
    assert torch.equal(sums, int8.matmul(codes, weight))
    for added, dtype in ((None, torch.float32), (bias, torch.float16), (bias.half(), torch.float32)):
        y = triton_int8.matmul(codes, row_scale, weight, scale, added, dtype, tiles)
        assert torch.equal(y, scaled(sums, row_scale, scale, added, dtype))
    y = triton_int8.matmul(codes, row_scale, weight, scale, bias, torch.bfloat16, tiles)
    assert torch.equal(y, bfloat16(scaled(sums, row_scale, scale, bias, torch.float32)))


def test_the_largest_sums_are_exact() -> None:
    width = 12288
    a = torch.full((33, width), 127, dtype=torch.int8, device=DEVICE)
    b = torch.full((40, width), -127, dtype=torch.int8, device=DEVICE)
    b[::2] = 127
    ones = torch.ones(40, 1, device=DEVICE)
    sums = triton_int8.matmul(a, ones[:33], b, ones, None, torch.int32)
    expected = torch.where(torch.arange(40, device=DEVICE) % 2 == 0, 127 * 127 * width, -127 * 127 * width).to(torch.int32)
    assert torch.equal(sums, expected.expand(33, 40))


def test_the_linear_is_the_definition() -> None:
    x, bias = normal(40, 320).to(DEVICE), normal(48).to(DEVICE)
    weight, scale = int8.quantize_per_channel(normal(48, 320, seed=5).to(DEVICE))
    codes, row_scale = int8.quantize_per_token(x)
    assert torch.equal(
        triton_int8.linear(x, weight, scale, bias), scaled(int8.matmul(codes, weight), row_scale, scale, bias, x.dtype)
    )
