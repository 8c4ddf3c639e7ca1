"""The W8A8 linear against its definition, and which back end runs where."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from ideogram_q8.numerics import fp8, ggml, int8
from ideogram_q8.numerics.rotation import rotate
from ideogram_q8.runtime import kernels
from ideogram_q8.runtime.kernels import (
    BACKENDS,
    Backend,
    Choice,
    Problem,
    Prologue,
    choose,
    int8_linear,
    int8_weight_only_linear,
    row_scale,
)
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.choosing.scratch import scratch_bytes
from ideogram_q8.runtime.kernels.linear import cpu, kitchen, tiles
from ideogram_q8.runtime.kernels.linear import int8 as kernel
from ideogram_q8.runtime.kernels.linear.int8 import Linear
from tests import live_bytes


@pytest.fixture(autouse=True)
def _nothing_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table.forget()
    choose.cache_clear()
    yield
    table.forget()
    choose.cache_clear()


def random_layer(rows: int, inputs: int, outputs: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows + inputs + outputs)
    x = torch.randn(rows, inputs, generator=generator) * torch.linspace(0.01, 30, rows).unsqueeze(1)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    codes, scale = int8.quantize_per_channel(weight)
    return x, weight, codes, scale, bias


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 32), (17, 256, 96), (40, 2500, 7)])
def test_equals_its_definition_in_integers(rows: int, inputs: int, outputs: int) -> None:
    x, _, codes, scale, bias = random_layer(rows, inputs, outputs)
    row_codes, row_scale = int8.quantize_per_token(x)
    product = row_codes.to(torch.int64) @ codes.to(torch.int64).t()
    expected = product.to(torch.float32) * row_scale * scale.t() + bias
    assert torch.equal(int8_linear(x, codes, scale, bias), expected)


def test_is_near_the_float_linear() -> None:
    x, weight, codes, scale, bias = random_layer(64, 512, 128)
    exact = torch.nn.functional.linear(x, weight, bias)
    error = int8_linear(x, codes, scale, bias) - exact
    assert error.norm() / exact.norm() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_shape_and_dtype(dtype: torch.dtype) -> None:
    x, _, codes, scale, _ = random_layer(6, 64, 32)
    y = int8_linear(x.reshape(2, 3, 64).to(dtype), codes, scale)
    assert y.shape == (2, 3, 32) and y.dtype == dtype


def test_a_row_of_zeros_gives_the_bias() -> None:
    _, _, codes, scale, bias = random_layer(1, 64, 32)
    assert torch.equal(int8_linear(torch.zeros(1, 64), codes, scale, bias)[0], bias)


def problem(
    capability: tuple[int, int] | None = (8, 6),
    rows: int = 64,
    inputs: int = 256,
    dtype: torch.dtype = torch.bfloat16,
) -> Problem:
    return Problem("cpu" if capability is None else "cuda:0", capability, dtype, rows, inputs, 256)


def chosen(asked: Problem, *wrong: str) -> Choice[Backend]:
    """As on a machine where everything is installed and gives right results, apart from `wrong`."""
    return choose(asked, lambda backend, _: "wrong sums" if backend.name in wrong else None)


@pytest.fixture
def _everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitchen, "_missing", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)  # whatever runs the test
    monkeypatch.setattr(table, "find", lambda *_: None)
    choose.cache_clear()


@pytest.mark.usefixtures("_everything_installed")
@pytest.mark.parametrize(
    ("asked", "name", "reasons"),
    [
        (problem(), "comfy-kitchen", {}),
        (problem(dtype=torch.float32), "Triton", {"comfy-kitchen": "takes bfloat16 and float16, got torch.float32"}),
        (problem(dtype=torch.float32, capability=(7, 5)), "torch._int_mm", {"Triton": "compute capability 8.0, got 7.5"}),
        (problem(capability=(7, 0)), "exact float32 chunks", {"torch._int_mm": "needs compute capability 7.5, got 7.0"}),
        (problem(rows=31), "dequantize", {"comfy-kitchen": "needs 32 rows, got 31", "torch._int_mm": "needs 32 rows, got 31"}),
        (
            problem(inputs=16400, dtype=torch.float32),
            "torch._int_mm",
            {"Triton": "at most 16384 inputs, got 16400"},
        ),
        (
            problem(inputs=16388, dtype=torch.float32),
            "exact float32 chunks",
            {
                "Triton": "a multiple of 16 inputs, got 16388",
                "torch._int_mm": "multiples of 8, got 16388",
                "dequantize": "got 64",
            },
        ),
        (
            problem(None),
            "exact float32 chunks",
            {
                "comfy-kitchen": "needs CUDA",
                "Triton": "needs CUDA",
                "AVX512-VNNI": "needs AVX512-VNNI",
                "dequantize": "needs CUDA",
            },
        ),
    ],
)
def test_the_choice_says_why_others_were_refused(asked: Problem, name: str, reasons: dict[str, str]) -> None:
    choice = chosen(asked)
    assert choice.backend.name == name
    order = [backend.name for backend in BACKENDS]
    assert [refused for refused, _ in choice.refused] == order[: order.index(name)]
    for refused, reason in reasons.items():
        assert reason in dict(choice.refused)[refused]


@pytest.mark.usefixtures("_everything_installed")
@pytest.mark.parametrize(
    ("step", "rotation", "name"),
    [
        ("", 0, "comfy-kitchen"),
        ("rms_norm", 0, "Triton"),
        ("swiglu", 0, "Triton"),
        ("rms_norm", 256, "comfy-kitchen"),
        ("swiglu", 256, "comfy-kitchen"),
    ],
)
def test_until_it_is_measured_the_fewest_bytes_before_the_product_come_first(step: str, rotation: int, name: str) -> None:
    """comfy-kitchen folds prologues of rotated rows only; where both move as much, it stays first. Without Triton it runs anyway."""
    asked = replace(problem(), step=step, rotation=rotation)
    assert chosen(asked).backend.name == name
    choose.cache_clear()
    assert chosen(asked, "Triton").backend.name == "comfy-kitchen"
    assert sorted(each.name for each in kernel.preferred(asked)) == sorted(each.name for each in BACKENDS)
    assert kernel.preferred(asked)[-1] is BACKENDS[-1]


@pytest.mark.parametrize("rotation", [0, 256])
@pytest.mark.parametrize("rows", [40, 1500])
def test_int_mm_takes_what_was_predicted_at_most(rows: int, rotation: int) -> None:
    """And is the definition, in parts of any size. Small codes, which no CPU saturates."""
    x, (outputs, inputs) = torch.randn(rows, 512, generator=torch.Generator().manual_seed(1)).bfloat16(), (256, 512)
    codes = torch.randint(-60, 61, (outputs, inputs), generator=torch.Generator().manual_seed(2), dtype=torch.int8)
    scale, before = torch.full((outputs, 1), 0.01), Prologue(rotation=rotation)
    exact, parted = (next(each for each in BACKENDS if each.name == name) for name in ("exact float32 chunks", "torch._int_mm"))
    assert torch.equal(parted.linear(x, codes, scale, None, before), exact.linear(x, codes, scale, None, before))
    peak = live_bytes.peak(lambda: parted.linear(x, codes, scale, None, before))
    assert peak - 2 * rows * outputs <= scratch_bytes("w8a8", rows, outputs, inputs, torch.bfloat16, "cuda")


def test_a_processor_with_vnni_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    assert chosen(problem(None)).backend.name == "AVX512-VNNI"
    assert chosen(problem(None), "AVX512-VNNI").backend.name == "exact float32 chunks"


@pytest.mark.usefixtures("_everything_installed")
def test_a_wrong_back_end_is_refused() -> None:
    choice = chosen(problem(), "comfy-kitchen", "Triton")
    assert choice.backend.name == "torch._int_mm"
    assert choice.refused == (("comfy-kitchen", "wrong sums"), ("Triton", "wrong sums"))


@pytest.mark.usefixtures("_everything_installed")
def test_refusals_on_a_card_are_warnings_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_told", set())
    with caplog.at_level(logging.INFO, "ideogram_q8"):
        for rows in (8, 64, 128):
            chosen(problem(rows=rows), "comfy-kitchen")
        chosen(problem(None), "comfy-kitchen")
        choose.cache_clear()
        chosen(problem(rows=256))
    told = [(record.levelname, record.getMessage().split(" on ")[1]) for record in caplog.records]
    assert [(level, said.split(":")[0]) for level, said in told if said.startswith("cpu")] == [("INFO", "cpu")]
    few, wrong, right = (each for each in told if each[1].startswith("cuda:0"))
    assert few[0] == "INFO" and few[1].startswith("cuda:0: dequantize; comfy-kitchen refused: needs 32 rows")
    assert wrong == ("WARNING", "cuda:0: Triton; comfy-kitchen refused: wrong sums")
    assert right == ("INFO", "cuda:0: comfy-kitchen")


BEFORE = [("", 0), ("rms_norm", 0), ("swiglu", 0), ("", 64), ("rms_norm", 256), ("swiglu", 16)]


@pytest.mark.parametrize(("step", "rotation"), BEFORE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prologue_is_the_operations_one_by_one(step: str, rotation: int, dtype: torch.dtype) -> None:
    """Bit for bit: folding what comes before the quantizer into the linear changes nothing."""
    x, _, codes, scale, bias = random_layer(40, 512, 48)
    factor = torch.linspace(-2, 2, 512).to(dtype)
    x = torch.cat([x, x.flip(0)], -1).to(dtype) if step == "swiglu" else x.to(dtype)
    by_hand = {
        "": lambda: x,
        "rms_norm": lambda: functional.rms_norm(x, (512,), factor, 1e-5),
        "swiglu": lambda: functional.silu(x[:, :512]) * x[:, 512:],
    }[step]()
    if rotation:
        by_hand = rotate(by_hand, rotation)
    folded = int8_linear(x, codes, scale, bias, step, factor if step == "rms_norm" else None, 1e-5, rotation)
    assert torch.equal(folded, int8_linear(by_hand, codes, scale, bias))
    assert folded.dtype == dtype


@pytest.mark.parametrize("linear", [kernel._int_mm_linear, cpu.linear])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_back_ends_are_the_definition(linear: Linear, dtype: torch.dtype) -> None:
    refusal = cpu.refuses("cpu") or ""
    if "saturates" in refusal:
        pytest.skip(refusal)
    x, _, codes, scale, bias = random_layer(300, 64, 24)
    arguments = x.to(dtype), codes, scale, bias, Prologue()
    assert torch.equal(linear(*arguments), BACKENDS[-1].linear(*arguments))


@pytest.mark.parametrize("cap", ["AVX2", "avx512_core"])
def test_a_capped_onednn_is_refused(cap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    assert cpu.refuses("cpu") is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert cpu.refuses("cpu") is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert cpu.refuses("cpu") == f"ONEDNN_MAX_CPU_ISA is {cap}, with which oneDNN saturates; remove it"
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert "AVX512-VNNI" in str(cpu.refuses("cpu"))


def test_the_definition_goes_by_tiles() -> None:
    x, _, codes, scale, bias = random_layer(40, 96, 150)
    whole = int8_linear(x, codes, scale, bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", 96 * 64)
        assert torch.equal(int8_linear(x, codes, scale, bias), whole)
        weight_only = int8_weight_only_linear(x, codes, scale, bias)
    assert torch.allclose(weight_only, functional.linear(x, int8.dequantize(codes, scale), bias), rtol=1e-5, atol=1e-4)


def test_the_last_refuses_nothing() -> None:
    assert BACKENDS[-1].refuses(Problem("meta", None, torch.float64, 1, 1, 1)) is None


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    choose.cache_clear()
    x, _, codes, scale, _ = random_layer(6, 64, 32)
    kernel._told.clear()
    with caplog.at_level(logging.INFO, "ideogram_q8"):
        for rows in (1, 2, 3):
            int8_linear(x[:rows], codes, scale)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("int8 linear on cpu: exact float32 chunks; comfy-kitchen refused: ")
    assert "AVX512-VNNI refused: needs AVX512-VNNI, which this CPU does not have" in message


def operands(name: str) -> tuple[object, ...]:
    x, weight, codes, scale, bias = random_layer(40, 256, 48)
    match name:
        case "ggml_linear":
            data = ggml.encode(weight, ggml.BLOCKS["q4_k"])
            return x, data, "q4_k", bias, row_scale(data, ggml.BLOCKS["q4_k"])
        case "fp8_linear":
            return x, *fp8.quantize_per_row(weight), bias
        case "int8_linear, normed":
            return x, codes, scale, bias, "rms_norm", torch.linspace(1, 2, 256), 1e-6, 64
        case "int8_linear, gated":
            return torch.cat([x, x], -1), codes, scale, bias, "swiglu"
        case _:
            return x, codes, scale, bias


@pytest.mark.parametrize(
    "case",
    ["int8_linear", "int8_linear, normed", "int8_linear, gated", "int8_weight_only_linear", "ggml_linear", "fp8_linear"],
)
def test_operators_compile_without_a_break(case: str) -> None:
    arguments, name = operands(case), case.split(",")[0]
    # torch's own comparison of inputs before and after has no arithmetic on float8
    checks = ("test_autograd_registration", "test_faketensor") if name == "fp8_linear" else "ALL"
    torch.library.opcheck(getattr(torch.ops.ideogram_q8, name).default, arguments, test_utils=checks)
    linear = getattr(kernels, name)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return linear(x, *arguments[1:]) * 2

    x = arguments[0]
    assert isinstance(x, torch.Tensor)
    torch.compiler.reset()
    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    for shaped in (x, x.reshape(2, 20, -1)):
        assert torch.equal(compiled(shaped), doubled(shaped))
