"""What a block does between its products: the definitions, and that a compiler can see through them. Programs: triton_laws.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ideogram_q8.runtime import kernels
from ideogram_q8.runtime.kernels import add_normalized, guided_step, place_heads
from ideogram_q8.runtime.kernels.rows import fused, triton_rows

TOKENS, HEADS, WIDTH = 6, 3, 32


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heads(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """q of q, k and v side by side; factor; cosines; sines."""
    whole = normal(1, TOKENS, 3 * HEADS * WIDTH).to(dtype)
    angles = normal(1, TOKENS, 1, WIDTH // 2, seed=1).repeat(1, 1, 1, 2)
    sin = angles.sin()
    sin[..., : WIDTH // 2].neg_()
    query = whole.chunk(3, -1)[0].unflatten(-1, (HEADS, WIDTH))
    return query, normal(WIDTH, seed=2).to(dtype), angles.cos().to(dtype), sin.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gated_residual_rounds_its_summand(dtype: torch.dtype) -> None:
    residual, x, factor = (normal(*shape, seed=3).to(dtype) for shape in ((1, 5, 64), (1, 5, 64), (64,)))
    expected = residual + functional.rms_norm(x, (64,), factor, 1e-5)
    given = x.clone()
    add_normalized(residual, x, factor, 1e-5)
    assert torch.equal(residual, expected) and torch.equal(x, given)


def test_heads_turn_as_pairs_of_halves() -> None:
    query, factor, cos, sin = heads(torch.float32)
    whole = query._base
    assert whole is not None
    others = whole[..., HEADS * WIDTH :].clone()
    norms = functional.rms_norm(query, (WIDTH,), factor, 1e-5)
    pairs = torch.complex(*norms.chunk(2, -1)) * torch.complex(cos, -sin)[..., : WIDTH // 2]
    place_heads(query, factor, cos, sin, 1e-5)
    torch.testing.assert_close(query, torch.cat([pairs.real, pairs.imag], -1), rtol=1e-5, atol=1e-6)
    assert torch.equal(whole[..., HEADS * WIDTH :], others)
    assert query.data_ptr() == whole.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("guidance", [0.3, 1.0, 3.0, 7.0])
def test_a_guided_step_is_the_two_of_the_stock_pipeline(guidance: float, dtype: torch.dtype) -> None:
    """To the bit; what it was given stays."""
    latents, unconditional, conditional = given = normal(3, 1, 5, 7, seed=4).to(dtype).unbind()
    before = [values.clone() for values in given]
    velocity, moved = guided_step(latents, unconditional, conditional, guidance, 0.0371)
    assert torch.equal(velocity, torch.lerp(unconditional, conditional, guidance))
    assert torch.equal(moved, torch.add(latents, velocity, alpha=0.0371))
    assert all(map(torch.equal, given, before))
    exact = unconditional.double() + guidance * (conditional.double() - unconditional.double())
    torch.testing.assert_close(velocity.double(), exact, rtol=0, atol=16 * torch.finfo(dtype).eps)


def test_without_cuda_plain_torch_does_it() -> None:
    assert fused.refusal(torch.device("cpu"), 64) == "needs CUDA"
    too_wide = triton_rows.LARGEST_WIDTH + 1
    assert fused.refusal(torch.device("cuda"), too_wide) == f"takes rows of at most 16384 values, got {too_wide}"


def placed_as_triton_rounds(x: torch.Tensor, factor: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float) -> None:
    """Product and sum rounded one after the other; torch's `addcmul_` fuses them in float32 on most CPUs."""
    normal = functional.rms_norm(x, factor.shape, factor, eps)
    turned = normal.roll(x.shape[-1] // 2, -1).float() * sin[:, None].float()
    x.copy_((normal * cos[:, None]).float() + turned)


def test_a_triton_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no C compiler")

    def plain(residual: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, eps: float) -> None:
        residual += functional.rms_norm(x, factor.shape, factor, eps)

    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(triton_rows, "add_normalized", no_compiler)
    fused._broken.cache_clear()
    assert fused._broken(torch.device("cpu")) == "RuntimeError: no C compiler"
    monkeypatch.setattr(triton_rows, "add_normalized", plain)
    monkeypatch.setattr(triton_rows, "place_heads", lambda *_: None)
    monkeypatch.setattr(triton_rows, "guided_step", lambda x, *_: (x, x))
    fused._broken.cache_clear()
    assert "place_heads is not its definition" in str(fused._broken(torch.device("cpu")))
    monkeypatch.setattr(triton_rows, "place_heads", placed_as_triton_rounds)
    fused._broken.cache_clear()
    assert "guided_step is not its definition" in str(fused._broken(torch.device("cpu")))
    monkeypatch.setattr(triton_rows, "guided_step", guided_step)
    fused._broken.cache_clear()
    assert fused._broken(torch.device("cpu")) is None
    fused._broken.cache_clear()


def test_a_refusal_is_a_warning_and_a_full_card_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: torch.device) -> None:
        raise torch.OutOfMemoryError("17 GiB")

    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: name)
    fused._broken.cache_clear()
    monkeypatch.setattr(fused, "wrong", full)
    with pytest.raises(torch.OutOfMemoryError):
        fused._broken(torch.device("cpu"))
    monkeypatch.setattr(fused, "wrong", lambda _: "add_normalized is not its definition")
    assert fused._broken(torch.device("cpu")) == "add_normalized is not its definition"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "norms and steps on cpu: plain torch; Triton refused: add_normalized is not its definition"
    fused._broken.cache_clear()


@pytest.mark.parametrize("name", ["add_normalized", "place_heads"])
def test_operators_compile_without_a_break(name: str) -> None:
    arguments: tuple[object, ...]
    if name == "place_heads":
        query, factor, cos, sin = heads(torch.float32)
        arguments = query.contiguous(), factor, cos, sin, 1e-5
    else:
        arguments = normal(1, 5, 64), normal(1, 5, 64, seed=1), normal(64, seed=2), 1e-5
    torch.library.opcheck(getattr(torch.ops.ideogram_q8, name).default, arguments)
    operator = getattr(kernels, name)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        changed = x.clone()
        operator(changed, *arguments[1:])
        return changed * 2

    x = arguments[0]
    assert isinstance(x, torch.Tensor)
    assert torch.equal(torch.compile(doubled, fullgraph=True, backend="aot_eager")(x), doubled(x))


def test_a_guided_step_compiles_without_a_break() -> None:
    arguments = *normal(3, 1, 5, 7).unbind(), 7.0, 0.05
    torch.library.opcheck(torch.ops.ideogram_q8.guided_step.default, arguments)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        velocity, moved = guided_step(x * 2, *arguments[1:])
        return velocity + moved

    x = arguments[0]
    assert torch.equal(torch.compile(doubled, fullgraph=True, backend="aot_eager")(x), doubled(x))
