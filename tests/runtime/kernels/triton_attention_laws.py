"""Attention's Triton programs against their definitions. Run by test_triton.py: in the interpreter on a CPU, and as they are on a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from ideogram_q8.numerics import attention
from ideogram_q8.runtime.kernels.attention import paths as kernel
from ideogram_q8.runtime.kernels.attention import triton_attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


def heads(tokens: int, width: int, dtype: torch.dtype, seed: int, count: int = 2) -> torch.Tensor:
    """[1, heads, tokens, width] out of a product of q, k and v: neither tokens nor heads are contiguous."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(1, tokens, 3, count, width, generator=generator) * torch.logspace(-1, 1, width)
    return whole[:, :, seed % 3].to(DEVICE, dtype).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "width"), [(1, 32), (11, 128), (9, 256)])
def test_heads_get_the_codes_of_the_definition(tokens: int, width: int, dtype: torch.dtype) -> None:
    x = heads(tokens, width, dtype, 1)
    x[0, 0, -1] = 0
    x[0, 0, 0, 5] = 1000
    codes, scale = triton_attention.quantize(x, None, attention.score_factor(width))
    expected_codes, expected_scale = attention.quantize_queries(x)
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)
    codes, scale = triton_attention.quantize(x, attention.key_mean(x).contiguous(), 1.0)
    expected_codes, expected_scale = attention.quantize_keys(x)
    assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)


@pytest.fixture
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes its time by the program, not by the token: all of a head's codes in one."""
    if INTERPRETED:
        monkeypatch.setattr(triton_attention, "ROWS", 128)


CASES = [(37, 70, 32, torch.float32), (64, 64, 64, torch.float16), (5, 130, 128, torch.float32), (70, 65, 256, torch.float32)]


@pytest.mark.usefixtures("_few_programs")
@pytest.mark.parametrize(("queries", "keys", "width", "dtype"), CASES)
def test_attention_is_the_definition(queries: int, keys: int, width: int, dtype: torch.dtype) -> None:
    """Weights get the next float16 where exp2 is a float32 step off; float16 sums of 64 products are off by 2^-9 of their size."""
    q, k, v = heads(queries, width, dtype, 1) / 4, heads(keys, width, dtype, 2), heads(keys, width, dtype, 3)
    expected = attention.attend(q.float(), k.float(), v.float())
    largest = v.float().abs().amax(-2, keepdim=True)
    for half_sums, bound in ((False, 2**-11), (True, 2**-8)):
        found = triton_attention.attend(q, k, v, half_sums)
        assert found.dtype == dtype and found.shape == q.shape and found.transpose(1, 2).is_contiguous()
        assert ((found.float() - expected).abs() <= bound * largest + torch.finfo(dtype).eps * expected.abs()).all()


@pytest.mark.usefixtures("_few_programs")
def test_the_first_key_in_sight_counts_as_much_as_the_last() -> None:
    """Scores that rise, and fall, from one step over the keys to the next: sums are scaled down, or what comes is small."""
    width = 32
    q = torch.ones(1, 1, 3, width, device=DEVICE)
    rising = torch.linspace(-3, 3, 150, device=DEVICE)[:, None].repeat(1, width)
    v = torch.arange(150 * width, device=DEVICE).view(1, 1, 150, width) / 1000
    for k in (rising, rising.flip(0)):
        found = triton_attention.attend(q, k[None, None], v, False)
        torch.testing.assert_close(found, attention.attend(q, k[None, None], v), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("_few_programs")
def test_extremes_stay_finite() -> None:
    q, k, v = (heads(70, 32, torch.float32, seed) for seed in (1, 2, 3))
    for changed in ((q * 0, k, v), (q, k, v * 1e30), (q * 1e3, k * 1e3, v)):
        assert triton_attention.attend(*changed, True).isfinite().all()
    assert (triton_attention.attend(q, k, v * 0, True) == 0).all()


@pytest.mark.usefixtures("_few_programs")
def test_the_trial_at_load_accepts_it() -> None:
    problem = kernel.AttentionProblem(DEVICE, None, torch.float32, 64)
    assert kernel.self_test(kernel.BACKENDS[1], problem) is None
