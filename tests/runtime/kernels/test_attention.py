"""Attention with int8 scores: what its definition promises, what may compute it where, and that a compiler can see through it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from ideogram_q8.numerics import attention
from ideogram_q8.runtime.kernels import int8_attention
from ideogram_q8.runtime.kernels.attention import paths as kernel
from ideogram_q8.runtime.kernels.attention import triton_attention
from ideogram_q8.runtime.kernels.linear import kitchen

CUDA = kernel.AttentionProblem("cuda:0", (8, 6), torch.bfloat16, 256)


def heads(tokens: int, width: int = 64, count: int = 2, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """[batch, heads, tokens, width], heads of a token side by side, as they come from a product."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, count, width, generator=generator).transpose(1, 2)


def qkv(tokens: int, width: int = 64, **options: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, v = (heads(tokens, width, seed=seed, **options) for seed in (1, 2, 3))
    return q, k, v


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q.double(), k.double(), v.double())


def snr(found: torch.Tensor, expected: torch.Tensor) -> float:
    """In decibels."""
    return float(10 * torch.log10(expected.double().square().sum() / (found.double() - expected).square().sum()))


@pytest.mark.parametrize("width", [32, 96, 256])
@pytest.mark.parametrize("tokens", [1, 2, 77, 300])
def test_it_is_attention_within_what_eight_bits_cost(tokens: int, width: int) -> None:
    q, k, v = qkv(tokens, width)
    assert snr(attention.attend(q, k, v), exact(q, k, v)) > 36


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_the_error_is_bounded_by_that_of_the_scores(spread: float) -> None:
    """Scores off by e at most change weights by a factor of e^(2 e) at most, and v by its float16 rounding."""
    q, k, v = qkv(120)
    q, k = q * spread, k * 2
    queries, query_scale = attention.quantize_queries(q)
    keys, key_scale = attention.quantize_keys(k)
    scores = (queries.double() @ keys.double().mT) * query_scale * key_scale.mT * math.log(2)
    centred = k.double() - k.double().mean(-2, keepdim=True)
    off = (scores - q.double() @ centred.mT / 8).abs().amax(-1, keepdim=True)
    found, expected = attention.attend(q, k, v), exact(q, k, v)
    bound = (torch.expm1(2 * off) + 2**-9) * v.abs().amax(-2, keepdim=True)
    assert ((found - expected).abs() <= bound).all() and off.max() < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_single_key_gives_its_value_to_the_bit(dtype: torch.dtype) -> None:
    q, k, v = heads(5).to(dtype), heads(1, seed=2).to(dtype), (heads(1, seed=3) * 30).bfloat16().to(dtype)
    assert torch.equal(int8_attention(q, k, v), v.expand_as(q))


def test_equal_keys_average_their_values_to_the_bit() -> None:
    q, k = heads(9), heads(1, seed=2).expand(1, 2, 8, 64)
    v = torch.randint(-64, 65, (1, 2, 8, 64), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(attention.attend(q, k, v), v.mean(-2, keepdim=True).expand(1, 2, 9, 64))


def test_a_query_that_sees_one_key_gives_its_value_to_the_bit() -> None:
    """One-hot queries and keys, so long that all other weights are less than float32 has beside 1."""
    tokens = width = 64
    q = k = (torch.eye(width) * 200)[None, None]
    v = heads(tokens, width, count=1, seed=3).half().float()
    assert torch.equal(attention.attend(q, k, v), v)
    assert torch.equal(functional.scaled_dot_product_attention(q, k, v), v)


def test_the_order_of_keys_does_not_matter() -> None:
    q, k, v = qkv(90, 32)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    found, plain = attention.attend(q, k[:, :, order], v[:, :, order]), attention.attend(q, k, v)
    assert (found - plain).abs().max() < 2e-4  # the mean of the keys is summed in another order
    k, v = (torch.randint(-8, 9, k.shape, generator=torch.Generator().manual_seed(i)).float() for i in (1, 2))
    k = torch.cat([k, -k], 2)  # the mean is 0 in every order: so is every code
    codes, scale = attention.quantize_keys(k)
    order = torch.randperm(180, generator=torch.Generator().manual_seed(0))
    there, scale_there = attention.quantize_keys(k[:, :, order])
    assert torch.equal(there, codes[:, :, order]) and torch.equal(scale_there, scale[:, :, order])


def test_a_vector_added_to_all_keys_does_not_matter() -> None:
    q, k, v = qkv(64, 32)
    k = (k * 64).round() / 64
    added = torch.randint(-40, 41, (1, 2, 1, 32), generator=torch.Generator().manual_seed(0)).float()
    codes, scale = attention.quantize_keys(k)
    shifted, shifted_scale = attention.quantize_keys(k + added)
    assert torch.equal(shifted, codes) and torch.equal(shifted_scale, scale)  # sums of 64 whole numbers of 64ths
    assert torch.equal(attention.attend(q, k + added, v), attention.attend(q, k, v))
    unsmoothed = functional.softmax((q @ _grid(k + added).mT) / 32**0.5, -1) @ v
    assert snr(attention.attend(q, k + added, v), exact(q, k, v)) > snr(unsmoothed, exact(q, k, v)) + 10


def _grid(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale


def test_an_outlier_channel_is_spread() -> None:
    q, k, v = qkv(100, 256)
    q[..., 7] *= 30
    k[..., 7] *= 5
    q = q / 4
    flat = functional.softmax((_grid(q) @ _grid(k - k.mean(-2, keepdim=True)).mT) / 16, -1) @ v
    assert snr(attention.attend(q, k, v), exact(q, k, v)) > snr(flat, exact(q, k, v)) + 6


def test_heads_and_samples_do_not_see_one_another() -> None:
    q, k, v = qkv(33, 32, count=3, batch=2)
    whole = attention.attend(q, k, v)
    for i in range(2):
        for j in range(3):
            alone = attention.attend(*(x[i : i + 1, j : j + 1] for x in (q, k, v)))
            torch.testing.assert_close(alone[0, 0], whole[i, j], rtol=1e-5, atol=1e-6)  # a product of another size
    other = v.clone()
    other[0, 1] = 99
    changed = attention.attend(q, k, other) != whole
    assert changed[0, 1].all() and not changed[1].any() and not changed[0, ::2].any()


def test_queries_may_be_others_than_keys_and_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = heads(70), heads(50, seed=2), heads(50, seed=3)
    whole = attention.attend(q, k, v)
    monkeypatch.setattr(attention, "SCORES", 50 * 7)
    torch.testing.assert_close(attention.attend(q, k, v), whole, rtol=1e-5, atol=1e-6)
    assert snr(whole, exact(q, k, v)) > 36


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extremes_stay_finite(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in qkv(40, 32))
    zeros = torch.zeros_like(q)
    for changed in ((zeros, k, v), (q, zeros, v), (q, k, zeros), (q, k, v * 1e30), (q, k, v * 1e-30)):
        found, expected = int8_attention(*changed), exact(*changed)
        assert found.isfinite().all() and found.dtype == dtype
        assert (found - expected).abs().max() <= 0.1 * changed[2].double().abs().max()
    assert torch.equal(int8_attention(q, k, zeros), zeros)
    found = int8_attention(q * 1e4, k * 1e4, v)  # whichever key wins
    assert found.isfinite().all() and (found.abs() <= v.abs().amax(-2, keepdim=True) * 1.01).all()
    loud = v.clone()
    loud[:, :, 3] = 6e4  # beyond what float16 sums of the values themselves could hold
    assert int8_attention(q, k, loud).isfinite().all()


def test_values_are_exact_where_float16_has_them() -> None:
    v = (heads(200, seed=4) * torch.logspace(-20, 20, 64)).bfloat16()
    factor = attention.value_factor(v)
    large = (v.float() * factor).abs() >= 2**-14
    assert torch.equal((attention.half_values(v, factor).float() / factor)[large], v.float()[large])
    amax = (v.float() * factor).abs().amax(-2)
    assert (amax >= 0.5).all() and (amax < 1).all()


@pytest.mark.parametrize(("width", "group"), [(256, 256), (128, 64), (96, 16), (36, 4), (2, 0)])
def test_heads_of_any_width_rotate_by_the_largest_group(width: int, group: int) -> None:
    assert attention.rotation_group(width) == group


# ---- what computes it ----


def test_every_refusal_is_said() -> None:
    choice = kernel.choose_on(torch.device("cpu"), torch.float32, 32)
    assert str(choice) == "plain torch; comfy-kitchen refused: needs CUDA; Triton refused: needs CUDA"
    old = (7, 5)
    assert kitchen.attention_refuses(old, torch.bfloat16, 256) == "needs compute capability 8.0, got 7.5"
    assert kitchen.attention_refuses((8, 6), torch.float32, 256) == "takes bfloat16 and float16, got torch.float32"
    assert kitchen.attention_refuses((8, 6), torch.bfloat16, 320) == "takes heads of at most 256 values, got 320"
    assert triton_attention.refuses(old, 256) == "needs compute capability 8.0, got 7.5"
    assert triton_attention.refuses((9, 0), 96) == "takes heads of 32, 64, 128, 256 values, got 96"
    assert triton_attention.refuses((9, 0), 256) is None


def test_cuda_falls_back_to_plain_attention_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "self_test", lambda backend, _: "self-test failed: no compiler" if backend.tried else None)
    monkeypatch.setattr(kitchen, "_missing", lambda: "comfy-kitchen has no CUDA back end here")
    monkeypatch.setattr(kernel.importlib.util, "find_spec", lambda name: name)
    kernel.choose.cache_clear()
    choice = kernel.choose(CUDA)
    kernel.choose.cache_clear()
    assert choice.backend.attend is functional.scaled_dot_product_attention
    assert dict(choice.refused) == {
        "comfy-kitchen": "comfy-kitchen has no CUDA back end here",
        "Triton": "self-test failed: no compiler",
        "plain torch": "computes a head at a time, on CUDA slower than plain attention",
    }


def test_the_first_that_passes_its_test_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitchen, "_missing", lambda: None)
    monkeypatch.setattr(kernel, "self_test", lambda *_: None)
    kernel.choose.cache_clear()
    assert kernel.choose(CUDA).backend.name == "comfy-kitchen" and not kernel.choose(CUDA).refused
    kernel.choose.cache_clear()


def test_a_back_end_that_is_wrong_or_fails_is_refused() -> None:
    here = kernel.AttentionProblem("cpu", None, torch.float32, 64)

    def broken(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image")

    def trial(attend: kernel.Attend) -> str | None:
        return kernel.self_test(kernel.AttentionBackend("trial", attend, lambda _: None, "int8", tried=True), here)

    assert trial(attention.attend) is None
    assert trial(broken) == "self-test failed: RuntimeError: no kernel image (150 tokens)"
    assert (
        trial(lambda q, k, v: attention.attend(q, k, v) * 1.5)
        == "self-test failed: 6.0 dB to exact attention, expected 20 (150 tokens)"
    )
    assert "nan dB" in str(trial(lambda q, k, v: q * math.nan))


def test_on_cuda_as_many_tokens_as_a_picture_has_are_tried() -> None:
    """comfy-kitchen has other tiles for more than 1024 keys."""
    seen: list[int] = []

    def wrong_when_long(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen.append(q.shape[2])
        found = functional.scaled_dot_product_attention(q, k, v)
        if q.shape[2] > 1024:
            found[:, :, -1] *= 20  # the last query, that ragged tiles get wrong
        return found

    backend = kernel.AttentionBackend("trial", wrong_when_long, lambda _: None, "int8", tried=True)
    here = kernel.AttentionProblem("cpu", None, torch.float32, 32)
    assert kernel.self_test(backend, here) is None and seen == [150]
    assert "dB to exact attention, expected 20 (4237 tokens)" in str(
        kernel.self_test(backend, replace(here, capability=(8, 6)))
    )


def test_running_out_of_memory_is_no_refusal() -> None:
    def full(*_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("17 GiB")

    with pytest.raises(torch.OutOfMemoryError):
        kernel.self_test(
            kernel.AttentionBackend("trial", full, lambda _: None, "int8", tried=True), replace(CUDA, device="cpu")
        )


def test_it_compiles_without_a_break() -> None:
    q, k, v = qkv(20, 32)
    torch.library.opcheck(torch.ops.ideogram_q8.int8_attention.default, (q, k, v))

    def doubled(q: torch.Tensor) -> torch.Tensor:
        return int8_attention(q, k, v).transpose(1, 2).flatten(2) * 2

    assert torch.equal(torch.compile(doubled, fullgraph=True, backend="aot_eager")(q), doubled(q))
    assert int8_attention(q, k, v).transpose(1, 2).is_contiguous()
