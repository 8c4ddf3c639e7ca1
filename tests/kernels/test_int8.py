"""The W8A8 linear against its definition, and which back end runs where."""

from __future__ import annotations

import logging

import pytest
import torch

from ideogram_q8.kernels import BACKENDS, Problem, choose, int8_linear
from ideogram_q8.kernels import int8 as kernel
from ideogram_q8.numerics import int8


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


@pytest.mark.parametrize(
    ("problem", "name", "reason"),
    [
        (Problem("cpu", None, 64, 256, 256), "exact float32 chunks", "needs CUDA, the tensors are on cpu"),
        (Problem("cuda", (8, 6), 64, 256, 256), "torch._int_mm", None),
        (Problem("cuda", (7, 0), 64, 256, 256), "exact float32 chunks", "needs compute capability 7.5, got 7.0"),
        (Problem("cuda", (8, 6), 16, 256, 256), "exact float32 chunks", "needs more than 16 rows, got 16"),
        (Problem("cuda", (8, 6), 64, 252, 256), "exact float32 chunks", "multiples of 8, got 252 inputs and 256 outputs"),
    ],
)
def test_the_choice_says_why_others_were_refused(problem: Problem, name: str, reason: str | None) -> None:
    choice = choose(problem)
    assert choice.backend.name == name
    reasons = dict(choice.refused)
    assert reason is None if not reasons else str(reason) in reasons["torch._int_mm"]


def test_the_reference_refuses_nothing() -> None:
    assert BACKENDS[-1].refuses(Problem("meta", None, 1, 1, 1)) is None


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    choose.cache_clear()
    x, _, codes, scale, _ = random_layer(6, 64, 32)
    kernel._log_once.cache_clear()
    with caplog.at_level(logging.INFO, "ideogram_q8"):
        for rows in (1, 2, 3):
            int8_linear(x[:rows], codes, scale)
    assert [record.getMessage() for record in caplog.records] == [
        "int8 linear on cpu: exact float32 chunks; torch._int_mm refused: needs CUDA, the tensors are on cpu"
    ]
