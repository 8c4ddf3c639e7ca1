"""comfy-kitchen as one of our back ends: on a CPU its plain-torch back end runs, which is its own reference."""

from __future__ import annotations

import comfy_kitchen
import pytest
import torch

from ideogram_q8.checkpoint import open_source
from ideogram_q8.generation.denoising import Denoiser
from ideogram_q8.kernels import BACKENDS, Backend, Problem, Prologue, kitchen
from ideogram_q8.kernels import int8 as kernel
from ideogram_q8.kernels.int8 import self_test
from ideogram_q8.kernels.prologue import STEPS
from ideogram_q8.loading.model import load
from ideogram_q8.numerics import int8
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.quantization import quantize
from ideogram_q8.recipe import choose

DTYPES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_our_definition(dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(40, 256, generator=generator) * torch.logspace(-2, 2, 40)[:, None]).to(dtype)
    codes, scale = int8.quantize_per_channel(torch.randn(70, 256, generator=generator))
    bias = torch.randn(70, generator=generator).to(dtype)
    exact = torch.nn.functional.linear(x.float(), int8.dequantize(codes, scale), bias.float())
    ours = BACKENDS[-1].linear(x, codes, scale, bias, Prologue()).float()
    with comfy_kitchen.use_backend("eager"):
        theirs = kitchen.linear(x, codes, scale, bias, Prologue()).float()
    error = (ours - exact).norm()
    # its plain torch divides in the dtype of x, ours in float32: in bfloat16 many codes differ by one
    assert (theirs - ours).norm() < 1.5 * error and (theirs - exact).norm() < 1.2 * error < 0.02 * exact.norm()


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
    assert kitchen.refuses(None, torch.bfloat16) == "needs CUDA"
