"""comfy-kitchen as one of our back ends: on a CPU its plain-torch back end runs, which is its own reference."""

from __future__ import annotations

import comfy_kitchen
import pytest
import torch
from comfy_kitchen.backends.eager.quantization import quantize_int8_rowwise

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.numerics import int8
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.denoising import Denoiser
from ideogram_q8.runtime.kernels import BACKENDS, Backend, Problem, Prologue
from ideogram_q8.runtime.kernels.linear import int8 as kernel
from ideogram_q8.runtime.kernels.linear import kitchen, known
from ideogram_q8.runtime.kernels.linear.int8 import self_test
from ideogram_q8.runtime.kernels.linear.prologue import STEPS
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_source

DTYPES = (torch.bfloat16, torch.float16)


def decibels(found, expected):
    return float(10 * torch.log10(expected.square().sum() / (found.double() - expected).square().sum()))


@pytest.mark.parametrize(("dtype", "share", "lost"), [(torch.bfloat16, 0.1, 0.35), (torch.float16, 0.015, 0.05)])
@pytest.mark.parametrize("tails", ["normal", "heavy", "outliers"])
def test_it_is_our_definition_but_for_codes_that_differ_by_one(dtype, share, lost, tails):
    """It divides in the dtype of x, ours in float32; what `kitchen` says that this costs, within a margin."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4608, generator=generator)
    if tails == "heavy":
        x *= torch.randn(x.shape, generator=generator)
    elif tails == "outliers":
        x[:, ::512] *= 30
    x, weight = x.to(dtype), torch.randn(128, 4608, generator=generator)
    codes, scale = int8.quantize_per_channel(weight)
    (ours, our_scale), (theirs, their_scale) = int8.quantize_per_token(x), quantize_int8_rowwise(x)
    off = (ours.int() - theirs).abs()
    assert off.max() == 1 and 0 < off.float().mean() < share and torch.equal(our_scale, their_scale)
    expected = x.double() @ weight.double().T
    with comfy_kitchen.use_backend("eager"):
        found = kitchen.linear(x, codes, scale, None, Prologue())
    assert decibels(found, expected) > decibels(BACKENDS[-1].linear(x, codes, scale, None, Prologue()), expected) - lost


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_scales_and_adds_as_our_definition_does(dtype):
    """On rows whose codes do not depend on where it rounds."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-127, 128, (40, 256), generator=generator)
    x[:, 0] = 127
    x = (x * 2.0 ** torch.arange(-5, 5).repeat(4)[:, None]).to(dtype)
    codes, scale = int8.quantize_per_channel(torch.randn(70, 256, generator=generator))
    bias = torch.randn(70, generator=generator).to(dtype)
    with comfy_kitchen.use_backend("eager"):
        theirs = kitchen.linear(x, codes, scale, bias, Prologue())
    torch.testing.assert_close(
        theirs, BACKENDS[-1].linear(x, codes, scale, bias, Prologue()), rtol=2 * torch.finfo(dtype).eps, atol=1e-2
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rotation", [0, 64, 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_passes_the_self_test(step, rotation, dtype):
    """Whose numbers come out the same wherever it rounds: it does what the prologue says, in our layout of gate and rotation."""
    problem = Problem("cpu", None, dtype, 64, 512, 64, step, rotation)
    assert self_test(Backend("comfy-kitchen on a CPU", kitchen.linear, lambda _: None), problem) is None


@pytest.mark.parametrize("rotated", [False, True])
def test_a_step_through_it_is_a_step_through_ours(rotated, tmp_path, monkeypatch):
    """Its arguments as the loop gives them: norm and modulation before qkv and w1, SwiGLU before w2."""
    source = open_source("pocket")
    quantize(source, convrot(source.config) if rotated else choose("int8", source.config), tmp_path / "int8")
    transformer = load(tmp_path / "int8", dtype=torch.bfloat16).branches["conditional"]
    latents, text = torch.randn(1, 16, 64), torch.randn(16, 256).to(torch.bfloat16)
    seen = []

    def step():
        kernel.choose.cache_clear()
        with torch.no_grad():
            return Denoiser(transformer, text, (4, 4), torch.tensor([0.3])).velocity(latents, 0)

    def spied(x, codes, scale, bias, before):
        seen.append(before.kind)
        with comfy_kitchen.use_backend("eager"):
            return kitchen.linear(x, codes, scale, bias, before)

    monkeypatch.setattr(kernel, "BACKENDS", (BACKENDS[-1],))
    ours = step()
    monkeypatch.setattr(kernel, "BACKENDS", (Backend("comfy-kitchen on a CPU", spied, lambda _: None, is_definition=True),))
    theirs = step()
    kernel.choose.cache_clear()
    group = 256 if rotated else 0
    assert {("rms_norm", group), ("", group), ("swiglu", group)} <= set(seen)
    assert (theirs - ours).norm() < 0.05 * ours.norm()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_it_says_why_it_does_not_run_here():
    kitchen._missing.cache_clear()
    assert str(kitchen.refuses((8, 6), torch.bfloat16)).startswith("comfy-kitchen has no CUDA back end here")
    assert str(kitchen.attention_refuses((8, 6), torch.bfloat16, 256)).startswith("comfy-kitchen has no CUDA back end here")
    assert kitchen.refuses(None, torch.bfloat16) == "needs CUDA"


def test_a_cuda_back_end_without_the_fused_linear_is_refused_and_says_what_to_do(monkeypatch):
    """Without cuBLASLt of CUDA 13 its dispatcher would take an unfused Triton kernel under the same name; attention is there still."""
    found = {"available": True, "unavailable_reason": None, "capabilities": ["int8_linear"]}
    monkeypatch.setattr(comfy_kitchen, "list_backends", lambda: {"cuda": found})
    kitchen._missing.cache_clear()
    assert kitchen.refuses((8, 6), torch.bfloat16) is None
    found["capabilities"] = ["scaled_mm_int8"]
    kitchen._missing.cache_clear()
    said = str(kitchen.refuses((8, 6), torch.bfloat16))
    assert "has no int8_linear here" in said and "libcublasLt.so.13" in said and "install torch built for CUDA 13" in said
    assert kitchen.attention_refuses((8, 6), torch.bfloat16, 256) is None
    kitchen._missing.cache_clear()


def test_on_the_shapes_of_ideogram_4_it_passes_what_a_card_would_try():
    """Else a sound card would paint with something slower."""
    for inputs, step, rotation in ((4608, "rms_norm", 0), (4608, "", 256), (12288, "swiglu", 0), (12288, "swiglu", 256)):
        assert known.wrong(kitchen.linear, "cpu", torch.bfloat16, (step, rotation), (70, inputs, 64)) is None
