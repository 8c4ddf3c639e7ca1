"""One branch against diffusers' own forward, in float32 and in bfloat16, and what is computed how often."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import IDEOGRAM4, MAX_TEXT_TOKENS
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.pocket.data import held_out_scenes
from ideogram_q8.pocket.tokenizer import caption_text
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation import denoising
from ideogram_q8.runtime.generation.denoising import Denoiser, Product, position_ids
from ideogram_q8.runtime.kernels import BlockProduct, Prologue, block_products, int8_linear
from ideogram_q8.runtime.kernels import choose as choose_backend
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.layers import packed
from ideogram_q8.runtime.layers.packed import PackedLinear
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.text import encoding
from ideogram_q8.sources import open_source
from tests.stock import stock_transformer

GRID = (8, 8)
CAPTION = caption_text(held_out_scenes(1)[0])
T = torch.tensor([0.1, 0.4, 0.7, 0.95]).to(torch.bfloat16).float()
"""Numbers that bfloat16 has, because the stock pipeline rounds timesteps to the activations' type."""
LATENTS = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Model:
    return load("pocket")


@pytest.fixture(scope="module")
def features(model: Model) -> torch.Tensor:
    return encoding.text_features(model.text_encoder, model.tokenizer, CAPTION)


@pytest.fixture(scope="module")
def stock() -> Ideogram4Transformer2DModel:
    return stock_transformer(WEIGHTS / "transformer")


@pytest.fixture(scope="module")
def coarse_stock() -> Ideogram4Transformer2DModel:
    transformer = stock_transformer(WEIGHTS / "transformer")
    frequencies = transformer.rotary_emb.inv_freq.clone()
    for parameter in transformer.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    assert torch.equal(transformer.rotary_emb.inv_freq, frequencies)  # float32, as `from_pretrained` keeps it
    return transformer


def tf32(values: torch.Tensor) -> torch.Tensor:
    """With the 10 bits after the first that TF32 keeps."""
    return (values.float().contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("coarse", [False, True], ids=["float32", "TF32"])
def test_rotary_angles_are_the_stock_ones_whatever_products_round_to(
    stock: Ideogram4Transformer2DModel, monkeypatch: pytest.MonkeyPatch, coarse: bool
) -> None:
    positions = position_ids(7, (40, 9))
    expected = stock.rotary_emb(positions)
    if coarse:
        plain = torch.Tensor.__matmul__
        monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: plain(tf32(a), tf32(b)))
        assert not torch.equal(stock.rotary_emb(positions)[0], expected[0])
    cos, sin = (each[:, :, 0] for each in denoising._rotary(stock, positions, torch.float32))
    assert torch.equal(cos, expected[0])
    half = sin.shape[-1] // 2
    assert torch.equal(torch.cat([-sin[..., :half], sin[..., half:]], -1), expected[1])


@torch.no_grad()
def stock_velocities(
    transformer: Ideogram4Transformer2DModel, features: torch.Tensor, dtype: torch.dtype, backend: SDPBackend
) -> torch.Tensor:
    """[steps, 1, tokens, channels] by diffusers' forward on the sequence text, image."""
    n, tokens = len(features), LATENTS.shape[1]
    latents = torch.cat([torch.zeros(1, n, LATENTS.shape[2]), LATENTS], 1).to(dtype)
    states = torch.cat([features, torch.zeros(tokens, features.shape[1])]).unsqueeze(0).to(dtype)
    indicator = torch.cat([torch.full((1, n), 3), torch.full((1, tokens), 2)], 1)
    positions, segments = position_ids(n, GRID), torch.ones(1, n + tokens, dtype=torch.int64)
    with sdpa_kernel(backend):
        found = [transformer(latents, t.reshape(1).to(dtype), states, positions, segments, indicator).sample for t in T]
    return torch.stack(found)[:, :, n:].float()


@torch.no_grad()
def velocities(model: Model, features: torch.Tensor) -> torch.Tensor:
    transformer = model.branches["conditional"]
    denoiser = Denoiser(transformer, encoding.project(transformer, features.to(model.dtype)), GRID, T)
    return torch.stack([denoiser.velocity(LATENTS, step) for step in range(len(T))])


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Relative, for each timestep."""
    return (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)


def test_float32_is_diffusers_forward(model: Model, stock: Ideogram4Transformer2DModel, features: torch.Tensor) -> None:
    expected = stock_velocities(stock, features, torch.float32, SDPBackend.MATH)
    assert (distances(velocities(model, features), expected) < 1e-5).all()


def test_bfloat16_is_as_near_as_diffusers_attention_back_ends_are_to_each_other(
    stock: Ideogram4Transformer2DModel, coarse_stock: Ideogram4Transformer2DModel, features: torch.Tensor
) -> None:
    exact = stock_velocities(stock, features, torch.float32, SDPBackend.MATH)
    backends = (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION)
    theirs = [stock_velocities(coarse_stock, features, torch.bfloat16, backend) for backend in backends]
    ours = velocities(load("pocket", dtype=torch.bfloat16), features)
    between = distances(theirs[1], theirs[0])
    assert (between > 0).all()
    assert (distances(ours, theirs[0]) < 2 * between).all()
    # and no further from the truth than they are
    assert (distances(ours, exact) < 1.05 * torch.stack([distances(found, exact) for found in theirs]).amin(0)).all()


def test_positions_are_the_stock_pipelines() -> None:
    expected, _, _ = Ideogram4Pipeline._prepare_ids([5], 3, 4, 9, torch.device("cpu"))
    assert torch.equal(position_ids(5, (3, 4)), expected[:, 4:])


def run_counts(model: Model, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often a product of (outputs, rows) was computed by a packed layer, preparing the branch and in one step."""
    counts: Counter[tuple[int, int]] = Counter()
    for kind in {type(module) for module in model.branches["conditional"].modules() if isinstance(module, PackedLinear)}:
        forward = kind.forward

        def counted(layer: PackedLinear, x: torch.Tensor, forward: object = forward) -> torch.Tensor:
            counts[layer.out_features, x.numel() // x.shape[-1]] += 1
            return forward(layer, x)  # type: ignore[operator]

        monkeypatch.setattr(kind, "forward", counted)
    transformer = model.branches["conditional"]
    with torch.no_grad():
        denoiser = Denoiser(transformer, encoding.project(transformer, features), GRID, T)
        prepared = counts.copy()
        denoiser.velocity(LATENTS, 0)
    counts.subtract(prepared)
    assert prepared[4 * 256, len(T)] == model.config.num_layers
    return +counts


def test_a_step_computes_four_products_a_block_and_no_modulation(
    model: Model, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, rows, tokens = model.config.num_layers, len(features) + 64, 64
    hidden, ffn, channels = 256, 512, 64
    counts = run_counts(model, features, monkeypatch)
    assert counts == Counter(
        {
            (3 * hidden, rows): count,  # q, k and v
            (hidden, rows): 2 * count,  # o and w2
            (2 * ffn, rows): count,  # w1 and w3
            (hidden, tokens): 1,  # input_proj
            (channels, tokens): 1,  # final_layer.linear
        }
    )


def test_watched_layers_run_by_themselves(model: Model) -> None:
    block = model.branches["conditional"].layers[0]
    parts = (block.attention.to_q, block.attention.to_k, block.attention.to_v)
    product = Product.of(parts)
    x = torch.randn(1, 7, 256, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    together = product.after(Prologue(), x)
    hook = parts[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    apart = product.after(Prologue(), x)
    hook.remove()
    assert len(seen) == 1 and seen[0] is x
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, apart, strict=True))


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, source = tmp_path_factory.mktemp("builds"), open_source("pocket")
    recipes = {
        "int8": choose("int8", source.config),
        "rotated": convrot(source.config),
        "q4_k_s": choose("q4_k_s", source.config),
    }
    for name, recipe in recipes.items():
        quantize(source, recipe, folder / name)
    return {name: folder / name for name in recipes}


@torch.no_grad()
def step(transformer: Ideogram4Transformer2DModel, dtype: torch.dtype) -> torch.Tensor:
    text_tokens = torch.randn(40, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    return Denoiser(transformer, text_tokens, GRID, T).velocity(LATENTS, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("variant", "compute"), [("int8", "bf16"), ("rotated", "bf16"), ("q4_k_s", "int8"), ("q4_k_s", "bf16"), ("fp8", "bf16")]
)
def test_what_is_folded_into_the_products_is_what_is_computed_one_by_one(
    builds: dict[str, Path], variant: str, compute: str, dtype: torch.dtype
) -> None:
    """To the bit for int8, whose sums know no order. Watched layers are given their inputs as tensors."""
    transformer = load(builds.get(variant, "pocket"), dtype=dtype, compute=compute).branches["conditional"]
    folded = step(transformer, dtype)
    seen: list[int] = []
    for module in transformer.layers.modules():
        if isinstance(module, PackedLinear):
            module.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].shape[-1] == layer.in_features))
    apart = step(transformer, dtype)
    assert all(seen) and len(seen) >= len(transformer.layers) * 7
    if variant in ("int8", "rotated") or compute == "int8":
        assert torch.equal(apart, folded)
    else:
        assert (apart - folded).norm() < (1e-5 if dtype == torch.float32 else 0.02) * folded.norm()


def test_a_block_is_four_products_with_what_comes_before_them(builds: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = load(builds["int8"]).branches["conditional"]
    seen: list[tuple[str, int, int, int]] = []

    def spied(x: torch.Tensor, codes: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append((others[2], x.shape[-1], codes.shape[1], codes.shape[0]))
        return int8_linear(x, codes, *others)

    monkeypatch.setattr(packed, "int8_linear", spied)
    step(transformer, torch.float32)
    hidden, ffn = 256, 512
    block = [
        ("rms_norm", hidden, hidden, 3 * hidden),
        ("", hidden, hidden, hidden),
        ("rms_norm", hidden, hidden, 2 * ffn),
        ("swiglu", 2 * ffn, ffn, hidden),
    ]
    assert seen == block * len(transformer.layers)
    planned = [(p.problem.step, p.problem.inputs, p.problem.outputs) for p in model_products(transformer)]
    assert planned == [(name, inputs, outputs) for name, _, inputs, outputs in block]


def model_products(transformer: Ideogram4Transformer2DModel) -> tuple[BlockProduct, ...]:
    config = dataclasses.replace(IDEOGRAM4, num_attention_heads=transformer.layers[0].attention.num_heads)
    config = dataclasses.replace(config, attention_head_dim=transformer.layers[0].attention.head_dim, intermediate_size=512)
    return block_products(config, 64, "cpu", torch.float32)


def test_a_model_tries_its_back_ends_when_it_is_loaded(builds: dict[str, Path]) -> None:
    for name, rotations in (("int8", {0}), ("rotated", {0, 256}), ("q4_k_s", set())):
        choose_backend.cache_clear()
        model = load(builds[name])
        tried = choose_backend.cache_info().currsize
        products = model.products((128, 128))
        captions = len(range(0, MAX_TEXT_TOKENS + 1, table.BUCKET))
        assert {product.problem.rotation for product in products} <= rotations and len(products) * captions == tried
        assert len(products) == 0 or name != "q4_k_s"
    assert len(load(builds["q4_k_s"], compute="int8").products((128, 128))) == 4
