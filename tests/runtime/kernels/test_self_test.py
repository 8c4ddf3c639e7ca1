"""What a back end is tried on before it computes anything: that it finds what is wrong, and nothing wrong in what is right."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from ideogram_q8.numerics import int8
from ideogram_q8.runtime.kernels import BACKENDS, Backend, Problem, Prologue
from ideogram_q8.runtime.kernels.linear import cpu
from ideogram_q8.runtime.kernels.linear import int8 as kernel
from ideogram_q8.runtime.kernels.linear.epilogue import scaled
from ideogram_q8.runtime.kernels.linear.int8 import Linear, self_test


def problem(dtype: torch.dtype = torch.bfloat16) -> Problem:
    """On a CPU."""
    return Problem("cpu", None, dtype, 64, 256, 256)


def saturating(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    """What a capped oneDNN computes: activations made unsigned, sums of two products cut off at 16 bits."""
    rows, row_scale = int8.quantize_per_token(before.apply(x))
    products = (rows[:, None, :].int() + 128) * codes[None].int()
    pairs = (products[..., ::2] + products[..., 1::2]).clamp(-32768, 32767)
    return scaled(pairs.sum(-1).int() - 128 * codes.int().sum(1), row_scale, scale, bias, x.dtype)


def broken(*_: object) -> torch.Tensor:
    raise RuntimeError("no compiler found")


@pytest.mark.parametrize(
    ("linear", "reason"), [(saturating, r"\d+ of 4096 sums are wrong"), (broken, "RuntimeError: no compiler found")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_self_test_finds_what_is_wrong(linear: Linear, reason: str, dtype: torch.dtype) -> None:
    found = self_test(Backend("tried", linear, lambda _: None), problem(dtype))
    assert found is not None and re.search(f"self-test failed: {reason}", found)


def test_a_back_end_that_fails_on_large_products_alone_is_refused_on_cuda() -> None:
    """Libraries have several kernels: what paints is what must be tried, with the weight's shape and the rows of the bucket."""
    seen: list[tuple[int, ...]] = []

    def large_is_broken(x: torch.Tensor, codes: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append((len(x), *codes.shape))
        y = BACKENDS[-1].linear(x, codes, *others)
        if len(x) > 64:
            y[-1, 5] += 1
        return y

    backend = Backend("tried", large_is_broken, lambda _: None)
    small = replace(problem(), rows=900, inputs=128, outputs=24)
    assert self_test(backend, small) is None and seen == [(64, 64, 512)]
    card = replace(small, capability=(8, 6))
    wrong = f"self-test failed: 1 of {1023 * 24} sums are wrong (1023 x 128 -> 24)"
    assert self_test(backend, card) == self_test(backend, replace(card, rows=1000)) == wrong
    assert seen == [(64, 64, 512), (1023, 24, 128)]  # rows of a bucket are tried once


def test_a_trial_is_bounded_however_large_the_picture() -> None:
    rows: list[int] = []

    def seen(x: torch.Tensor, codes: torch.Tensor, *_: object) -> torch.Tensor:
        rows.append(len(x))
        return x.new_zeros(len(x), len(codes) + (len(x) > 64))

    asked = replace(problem(), capability=(8, 6), rows=100_000, inputs=16, outputs=8)
    right_when_small = Backend("tried", lambda *a: BACKENDS[-1].linear(*a) if len(a[0]) == 64 else seen(*a), lambda _: None)
    assert self_test(right_when_small, asked) == "self-test failed: gave [8191, 9], expected [8191, 8] (8191 x 16 -> 8)"
    assert rows == [8191]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("17 GiB"), RuntimeError("CUDA error: out of memory"), MemoryError()])
def test_running_out_of_memory_is_no_refusal(error: Exception) -> None:
    """It may fit the next time: what is remembered is remembered for good."""
    errors = [error]

    def once(*arguments: object) -> torch.Tensor:
        if errors:
            raise errors.pop()
        return BACKENDS[-1].linear(*arguments)

    backend = Backend("tried", once, lambda _: None)
    with pytest.raises(type(error)):
        self_test(backend, problem())
    assert self_test(backend, problem()) is None


BEFORE = [("", 0), ("rms_norm", 0), ("swiglu", 0), ("", 64), ("rms_norm", 256), ("swiglu", 16)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("linear", [BACKENDS[-1].linear, kernel._int_mm_linear, cpu.linear])
@pytest.mark.parametrize(("step", "rotation"), BEFORE)
def test_back_ends_that_run_here_pass_the_self_test(linear: Linear, dtype: torch.dtype, step: str, rotation: int) -> None:
    asked = replace(problem(dtype), step=step, rotation=rotation)
    assert self_test(Backend("tried", linear, lambda _: None), asked) is None


@pytest.mark.parametrize(
    ("step", "rotation", "forgotten"),
    [
        (step, rotation, what)
        for step, rotation in BEFORE
        for what in ("step" if step else "", "rotation" if rotation else "")
        if what
    ],
)
def test_the_self_test_finds_a_prologue_that_is_left_out(step: str, rotation: int, forgotten: str) -> None:
    def forgetful(x: torch.Tensor, *others: object) -> torch.Tensor:
        codes, scale, bias, before = others
        x = x[:, : codes.shape[1]] if forgotten == "step" else x
        left = replace(before, **{"step": ""} if forgotten == "step" else {"rotation": 0})
        return BACKENDS[-1].linear(x, codes, scale, bias, left)

    found = self_test(Backend("tried", forgetful, lambda _: None), replace(problem(), step=step, rotation=rotation))
    assert found is not None and "sums are wrong" in found
