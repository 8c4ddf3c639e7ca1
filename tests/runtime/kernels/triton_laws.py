"""The Triton programs against their definitions. Run by test_triton.py: under Triton's interpreter on a CPU, and as they are on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.denoising import Denoiser
from ideogram_q8.runtime.kernels import Prologue
from ideogram_q8.runtime.kernels.linear import int8 as kernel
from ideogram_q8.runtime.kernels.linear import triton_ggml, triton_int8
from ideogram_q8.runtime.kernels.linear.epilogue import scaled
from ideogram_q8.runtime.kernels.programs import blocks
from ideogram_q8.runtime.kernels.rows import fused, triton_rows
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_source
from tests.runtime.kernels import test_reciprocal

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


@triton.jit
def codes_by_reciprocal(values, scale, codes, BLOCK: tl.constexpr):  # noqa: N803 (Triton's language)
    at = tl.arange(0, BLOCK)[:, None]
    tl.store(codes + at, blocks.to_codes_by_reciprocal(tl.load(values + at), tl.load(scale + at)))


@pytest.mark.parametrize("power", [-77, 0, 60])
def test_codes_by_a_reciprocal_are_those_by_a_division_where_they_are_hardest(power: int) -> None:
    cases = [(sign * value, scale) for _, value, scale in test_reciprocal.hard_cases() for sign in (1, -1)][:2048]
    values, scale = torch.tensor(cases, device=DEVICE).mul_(2.0**power).T.contiguous()
    codes = torch.empty(2048, dtype=torch.int8, device=DEVICE)
    codes_by_reciprocal[(1,)](values, scale, codes, BLOCK=2048, enable_fp_fusion=False)
    assert torch.equal(codes, (values / scale).round().clamp(-127, 127).to(torch.int8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 200), (3, 4608)])
def test_rows_are_quantized_as_defined(rows: int, width: int, dtype: torch.dtype) -> None:
    x = (normal(rows, width) * torch.logspace(-3, 3, rows)[:, None]).to(DEVICE, dtype)
    x[-1] = 0
    x[0, 0] = -x[0].abs().max() * 2
    codes, scale = triton_rows.quantize(x, Prologue())
    expected_codes, expected_scale = int8.quantize_per_token(x)
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)


@pytest.mark.parametrize("tiles", TILES, ids=str)
@pytest.mark.parametrize(("whole", "rows", "inputs", "outputs"), [(0, 37, 200, 70), (1, 2, 128, 8)])
def test_products_are_exact(tiles: triton_int8.Tiles, whole: int, rows: int, inputs: int, outputs: int) -> None:
    """Of less than a tile, and of a whole one each way and a rest."""
    rows, outputs = rows + whole * tiles.rows, outputs + whole * tiles.columns
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
        triton_int8.linear(x, weight, scale, bias, Prologue()),
        scaled(int8.matmul(codes, weight), row_scale, scale, bias, x.dtype),
    )


def rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values as the programs round them to `dtype`, in float32 again."""
    return (bfloat16(values) if dtype == torch.bfloat16 else values.to(dtype)).float()


def normal_rows(x: torch.Tensor, factor: torch.Tensor, eps: float) -> torch.Tensor:
    """rms_norm in float32, rounded once to the dtype of x as the programs round; its mean by float64, its root correctly rounded."""
    values, factor = x.cpu(), factor.cpu()
    mean = values.double().square().mean(-1, keepdim=True).float()
    return rounded((values.float() * (mean + eps).rsqrt() * factor.float()).to(x.device), x.dtype)


DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 2), (7, 200), (3, 4608)])
def test_norm_and_quantizing_give_the_codes_of_the_definition(rows: int, width: int, dtype: torch.dtype) -> None:
    """Of whole numbers, whose squares sum to the same in every order; any factor, a row of zeros, extremes."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randint(-8, 9, (rows, width), generator=generator).to(DEVICE, dtype)
    x[-1] = 0
    x[0] *= 2
    factor = normal(width, seed=9).to(DEVICE, dtype)
    before = Prologue("rms_norm", factor, 1e-5)
    codes, scale = triton_rows.quantize(x, before)
    expected_codes, expected_scale = int8.quantize_per_token(normal_rows(x, factor, 1e-5))
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)
    if dtype != torch.bfloat16 or not INTERPRETED:
        there = Prologue("rms_norm", factor.cpu(), 1e-5).apply(x.cpu())
        assert torch.equal(normal_rows(x, factor, 1e-5).cpu(), there.float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_and_quantizing_of_any_numbers_are_a_step_off_at_most(dtype: torch.dtype) -> None:
    x = (normal(9, 4608) * torch.logspace(-3, 2, 9)[:, None]).to(DEVICE, dtype)
    factor = normal(4608, seed=1).to(DEVICE, dtype)
    codes, scale = triton_rows.quantize(x, Prologue("rms_norm", factor, 1e-6))
    expected_codes, expected_scale = int8.quantize_per_token(normal_rows(x, factor, 1e-6))
    assert ((scale - expected_scale).abs() <= (torch.finfo(dtype).eps + 2**-21) * expected_scale).all()
    difference = (codes.int() - expected_codes.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.01


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # the interpreter's numpy
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 200), (3, 12288)])
def test_swiglu_and_quantizing_give_the_codes_of_the_definition(rows: int, width: int, dtype: torch.dtype) -> None:
    """Where exp is 0, 1 or beyond float32: gates of 20 and more, 0, and below -110."""
    generator = torch.Generator().manual_seed(rows)
    gate = torch.tensor([20.0, 31.5, 64.0, 0.0, -128.0])[torch.randint(0, 5, (rows, width), generator=generator)]
    x = torch.cat([gate, normal(rows, width, seed=3)], -1).to(DEVICE, dtype)
    x[-1, width:] = 0
    codes, scale = triton_rows.quantize(x, Prologue("swiglu"))
    gate, up = x.float().chunk(2, -1)
    expected = rounded(rounded(gate.clamp_min(0), dtype) * up, dtype)
    expected_codes, expected_scale = int8.quantize_per_token(expected)
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)
    if dtype != torch.bfloat16 or not INTERPRETED:
        assert torch.equal(expected, Prologue("swiglu").apply(x).float() + 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_and_quantizing_of_any_numbers_are_a_step_off_at_most(dtype: torch.dtype) -> None:
    x = (normal(9, 2 * 1500) * torch.logspace(-2, 1, 9)[:, None]).to(DEVICE, dtype)
    codes, scale = triton_rows.quantize(x, Prologue("swiglu"))
    gate, up = x.double().chunk(2, -1)
    silu = rounded((gate / (1 + (-gate).exp())).float(), dtype)
    expected_codes, expected_scale = int8.quantize_per_token(rounded(silu * up.float(), dtype))
    assert ((scale - expected_scale).abs() <= (2 * torch.finfo(dtype).eps + 2**-21) * expected_scale).all()
    difference = (codes.int() - expected_codes.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.01


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("step", "width"), [("", 512), ("rms_norm", 512), ("swiglu", 512), ("", 4608), ("", 768), ("rms_norm", 768)]
)
@pytest.mark.parametrize("group", [256, 16])
def test_rotated_rows_get_the_codes_of_the_definition(group: int, step: str, width: int, dtype: torch.dtype) -> None:
    """On rows that are no power of two, with a row of zeros and one of a single value; of numbers whose norm and gate are exact."""
    generator = torch.Generator().manual_seed(width)
    x = torch.randint(-8, 9, (5, width), generator=generator).to(DEVICE, dtype)
    x[1], x[2] = 0, 0
    x[2, width // 2] = 5
    if step == "swiglu":
        x = torch.cat([torch.full_like(x, 32.0), normal(5, width, seed=3).to(DEVICE, dtype)], -1)
    factor = normal(width, seed=2).to(DEVICE, dtype) if step == "rms_norm" else None
    before = Prologue(step, factor, 1e-5, rotation=group)
    codes, scale = triton_rows.quantize(x, before)
    expected_codes, expected_scale = int8.quantize_per_token(before.apply(x))
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)


def test_rotation_makes_no_tensor_beside_codes_and_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prologue, "apply", lambda *_: pytest.fail("made in plain torch"))
    triton_rows.quantize(normal(2, 512).to(DEVICE), Prologue(rotation=256))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [96, 4608])
def test_the_gated_residual_is_its_definition(width: int, dtype: torch.dtype) -> None:
    x = torch.randint(-8, 9, (4, width), generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)
    residual, factor = (normal(*shape, seed=5).to(DEVICE, dtype) for shape in ((5, width), (width,)))
    expected = rounded(residual[:4].float() + normal_rows(x, factor, 1e-5), dtype)
    last = residual[4].clone()
    triton_rows.add_normalized(residual[:4], x, factor, 1e-5)
    assert torch.equal(residual[:4].float(), expected) and torch.equal(residual[4], last)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "width"), [(1, 2), (3, 96), (18, 256)])
def test_heads_are_placed_as_defined_and_nothing_else_is_touched(heads: int, width: int, dtype: torch.dtype) -> None:
    tokens = 2  # each is a program, the interpreter's slowest
    both = torch.randint(-8, 9, (tokens, 2, heads * width), generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)
    factor, cos, sin = (normal(*shape, seed=6).to(DEVICE, dtype) for shape in ((width,), *[(tokens, width)] * 2))
    query, key = (part.unflatten(-1, (heads, width)) for part in both.unbind(1))
    before = normal_rows(query, factor, 1e-5)
    kept = rounded(before * cos.float()[:, None], dtype)
    expected = rounded(kept + before.roll(width // 2, -1) * sin.float()[:, None], dtype)
    untouched = key.clone()
    triton_rows.place_heads(query, factor, cos, sin, 1e-5)
    assert torch.equal(query.float(), expected) and torch.equal(key, untouched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("guidance", [0.25, 0.5, 7.0])
def test_a_guided_step_is_its_definition(guidance: float, dtype: torch.dtype) -> None:
    """Exactly of numbers that every order of rounding gives; on a GPU of any, as torch's kernels there fuse the same sums."""
    shape = (3, 1, 11, 100)  # no multiple of what a program takes
    whole = torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(3))
    for values in (whole, *(() if INTERPRETED else (normal(*shape),))):
        latents, unconditional, conditional = (part.to(DEVICE, dtype) for part in values)
        velocity, moved = triton_rows.guided_step(latents, unconditional, conditional, guidance, 0.25)
        expected = torch.lerp(unconditional, conditional, guidance)
        assert torch.equal(velocity, expected) and torch.equal(moved, torch.add(latents, expected, alpha=0.25))


def test_a_guided_step_of_any_numbers_is_rounded_once_or_twice() -> None:
    latents, unconditional, conditional = normal(3, 1, 11, 100).to(DEVICE)
    velocity, moved = triton_rows.guided_step(latents, unconditional, conditional.mT.contiguous().mT, 7.0, 0.0371)
    exact = unconditional.double() + 7.0 * (conditional.double() - unconditional.double())
    size = 8 * (conditional.abs() + unconditional.abs())
    assert ((velocity - exact).abs() <= 2**-23 * size).all()
    assert ((moved - (latents + 0.0371 * velocity.double())).abs() <= 2**-23 * (latents.abs() + velocity.abs())).all()


def test_the_trial_at_load_accepts_the_programs_and_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fused.wrong(torch.device(DEVICE), DTYPES[: 2 if INTERPRETED else 3]) is None  # bfloat16: triton_trial_laws.py
    monkeypatch.setattr(triton_rows, "add_normalized", lambda *_: None)
    assert "add_normalized is not its definition" in str(fused.wrong(torch.device(DEVICE)))


@torch.no_grad()
def test_a_step_by_the_programs_is_a_step_by_the_definitions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything wired as on a GPU: the W8A8 products with what comes before them, norms, gates and rotary positions."""
    source = open_source("pocket")
    quantize(source, choose("int8", source.config), tmp_path / "int8")
    transformer = load(tmp_path / "int8", device=DEVICE).branches["conditional"]
    transformer.layers = transformer.layers[:1]
    x = normal(1, 6, 64).to(DEVICE)

    def step() -> torch.Tensor:
        text = normal(5, 256, seed=1).to(DEVICE)
        return Denoiser(transformer, text, (2, 3), torch.tensor([0.3], device=DEVICE)).velocity(x, 0)

    plain = kernel.Backend("plain", kernel.BACKENDS[-1].linear, lambda _: None, is_definition=True)
    exact = replaced(monkeypatch, step, plain, "switched off")
    ran: list[str] = []
    triton = kernel.Backend("Triton", spy(ran, triton_int8.linear), lambda _: None, is_definition=True)
    for name in ("add_normalized", "place_heads"):
        monkeypatch.setattr(triton_rows, name, spy(ran, getattr(triton_rows, name)))
    found = replaced(monkeypatch, step, triton, None)
    products, places = ["linear"], ["place_heads"] * 2
    assert ran == [*products, *places, *products, "add_normalized", *products, *products, "add_normalized"]
    assert (found - exact).norm() < 2e-3 * exact.norm()  # a code may be the next one; int8 itself is 1 to 2 % off


def replaced(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[], torch.Tensor], backend: kernel.Backend, refusal: str | None
) -> torch.Tensor:
    """A step where this back end computes all W8A8 products."""
    kernel.choose.cache_clear()
    monkeypatch.setattr(kernel, "BACKENDS", (backend,))
    monkeypatch.setattr(fused, "refusal", lambda *_: refusal)
    found = step()
    kernel.choose.cache_clear()
    return found


def spy(ran: list[str], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        ran.append(function.__name__)
        return function(*arguments)

    return call
