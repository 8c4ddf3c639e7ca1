"""Every trial accepts the Triton program that it tries, in every dtype, and rejects one that is broken. Run by test_triton.py.

A trial that rejects a sound program is worse than none: the program is never used, and no other test notices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.runtime.kernels import Prologue
from ideogram_q8.runtime.kernels.attention import paths as attention
from ideogram_q8.runtime.kernels.attention import triton_attention
from ideogram_q8.runtime.kernels.linear import ggml, int8, known, triton_ggml, triton_int8
from ideogram_q8.runtime.kernels.rows import fused, triton_rows

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
KINDS = [(step, rotation) for step in ("", "rms_norm", "swiglu") for rotation in (0, 256)]


@pytest.fixture(autouse=True)
def _bfloat16_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter drops the lower bits of bfloat16, where the machine code rounds to the nearest (cvt.rn.bf16, test_aot.py)."""
    if not INTERPRETED:
        return
    from triton.runtime import interpreter

    plain = interpreter._convert_float

    def convert(values: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source.name, target.name) != ("fp32", "bf16"):
            return plain(values, source, target, rounding)
        given = torch.from_numpy(np.array(values, dtype=np.float32))
        return given.bfloat16().view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_and_steps_pass_their_trial(dtype: torch.dtype) -> None:
    assert fused.wrong(DEVICE, (dtype,)) is None


def next_number(values: torch.Tensor) -> None:
    """Moves one value of a floating tensor to the next number of its dtype, in place."""
    where = tuple(size - 1 for size in values.shape)
    values[where] = torch.nextafter(values[where], torch.full_like(values[where], 1e4))


def spoilt(function: Callable[..., Any], spoil: Callable[..., object]) -> Callable[..., Any]:
    """`function`, after which `spoil` sees its arguments and its result."""

    def call(*arguments: Any) -> Any:
        found = function(*arguments)
        spoil(arguments, found)
        return found

    return call


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("add_normalized", lambda given, _: next_number(given[0])),
        ("place_heads", lambda given, _: next_number(given[0])),
        ("guided_step", lambda _, found: next_number(found[0])),
        ("guided_step", lambda _, found: next_number(found[1])),
    ],
)
def test_a_single_number_that_is_off_fails_the_trial(
    name: str, spoil: Callable[..., object], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_rows, name, spoilt(getattr(triton_rows, name), spoil))
    assert f"{name} is not its definition in {dtype}" in str(fused.wrong(DEVICE, (dtype,)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BLOCKS)
def test_expansions_pass_their_trial(name: str, dtype: torch.dtype) -> None:
    assert ggml.wrong(BLOCKS[name], DEVICE, dtype) is None


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("to_codes", [False, True])
def test_an_expansion_with_one_wrong_value_fails_the_trial(name: str, to_codes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(given: Any, _: object) -> None:
        out = given[2]
        if (out.dtype == torch.int8) == to_codes:
            out[-1, -1] += 1

    monkeypatch.setattr(triton_ggml, "expand", spoilt(triton_ggml.expand, spoil))
    assert "not those of the definition" in str(ggml.wrong(BLOCKS[name], DEVICE, torch.float16))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # the interpreter's numpy
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_products_pass_their_trial(kind: tuple[str, int], dtype: torch.dtype) -> None:
    assert known.wrong(triton_int8.linear, str(DEVICE), dtype, kind, int8.SMALL_TRIAL) is None


def broken_quantizers() -> Iterator[tuple[str, Callable[..., Any]]]:
    quantize = triton_rows.quantize

    def changed(x: torch.Tensor, before: Prologue) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = quantize(x, before)
        codes[-1, -1] -= 1
        return codes, scale

    def rescaled(x: torch.Tensor, before: Prologue) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = quantize(x, before)
        return codes, scale * 1.01

    yield "a code is off by one", changed
    yield "scales are off by one in a hundred", rescaled


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("broken", [each for _, each in broken_quantizers()], ids=[name for name, _ in broken_quantizers()])
def test_a_broken_quantizer_fails_the_trial(
    broken: Callable[..., Any], kind: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_rows, "quantize", broken)
    assert "sums are wrong" in str(known.wrong(triton_int8.linear, str(DEVICE), torch.float16, kind, int8.SMALL_TRIAL))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("half_sums", [False, True])
def test_attention_passes_its_trial(dtype: torch.dtype, half_sums: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both ways to sum: which one a card takes is known there only."""
    if INTERPRETED:
        monkeypatch.setattr(triton_attention, "ROWS", 128)  # the interpreter takes its time by the program
    backend = next(each for each in attention.BACKENDS if each.name == "Triton")
    way = attention.AttentionBackend(
        "Triton", lambda q, k, v: triton_attention.attend(q, k, v, half_sums), backend.refuses, "int8 scores", True
    )
    assert attention.self_test(way, attention.AttentionProblem(str(DEVICE), None, dtype, 256)) is None


def test_attention_that_misses_keys_fails_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        monkeypatch.setattr(triton_attention, "ROWS", 128)

    def blind(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen = k.shape[2] // 64 * 64  # whole tiles only
        return triton_attention.attend(q, k[:, :, :seen], v[:, :, :seen])

    backend = attention.AttentionBackend("Triton", blind, lambda _: None, "int8 scores", True)
    assert "dB to exact attention" in str(
        attention.self_test(backend, attention.AttentionProblem(str(DEVICE), None, torch.float16, 64))
    )
