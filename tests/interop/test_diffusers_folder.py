"""Stock diffusers with torchao opens the folder, without any code of this package, and computes what this package computes.

torchao 0.18 and this package share weights, scales and the exact int32 product. They differ in one number: torchao's scale of a token
is amax / 127.5, ours amax / 127 (as in ComfyUI). So whole models are equal within rounding where activations are not quantized
(weight-only int8), or where torchao's rule is put into our kernel; with each one's own rule they are as far from each other as two
independent quantizations of activations.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from ideogram_q8.builds import Artifact, open_artifact
from ideogram_q8.builds.conversion import convert
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, Branch, diffusers_names, linears
from ideogram_q8.numerics import int8
from ideogram_q8.runtime.kernels import int8_linear
from ideogram_q8.runtime.kernels.linear import int8 as kernel
from ideogram_q8.runtime.layers.packed import Int8Linear
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.sources import open_source
from tests.interop.recipes import MIXED, all_alike
from tests.synthetic import TINY, write_source

torchao = pytest.importorskip("torchao", reason="pip install --no-deps torchao==0.18.0 accelerate==1.15.0")
pytest.importorskip("accelerate", reason="diffusers loads quantized models with it")
diffusers = pytest.importorskip("diffusers", minversion="0.42", reason="older releases do not read torchao's safetensors")

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16)
BF16_STEP = 2.0**-8
"""Rounding to bfloat16 moves a value by at most this share of it, halved."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    """A folder with int8, weight-only and protected Linears."""
    place = tmp_path_factory.mktemp("folder")
    quantize(open_source(write_source(place / "source")), MIXED, place / "single")
    convert(place / "single", "diffusers", place / "folder")
    return open_artifact(place / "folder")


@pytest.fixture(scope="module")
def stock(artifact):
    """Both transformers as diffusers opens them, by dtype and branch."""

    return {(dtype, branch): opened(artifact, branch, dtype) for dtype in DTYPES for branch in BRANCHES}


def opened(artifact: Artifact, branch: Branch, dtype: torch.dtype):
    path = artifact.folder / COMPONENT_FOLDERS[branch]
    return diffusers.Ideogram4Transformer2DModel.from_pretrained(path, torch_dtype=dtype, local_files_only=True)


def int8_layers(artifact: Artifact, branch: Branch):
    """(diffusers' name, weight) of each int8 Linear."""
    view = artifact.branch(branch)
    for linear in linears(TINY):
        packed = view.packed(linear.name)
        if isinstance(packed, Int8Weight):
            parts = diffusers_names(f"{linear.name}.weight")
            rows = linear.out_features // len(parts)
            for i, name in enumerate(parts):
                yield name.removesuffix(".weight"), packed.row_slice(i * rows, (i + 1) * rows)


def torchao_rule(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """torchao's quantization of activations: the scale in the dtype of `x`, codes -128 to 127."""
    scale = (x.abs().amax(-1, keepdim=True) / 127.5).clamp_min(torch.finfo(torch.float32).eps).float()
    return (x.float() * (1.0 / scale)).round().clamp(-128, 127).to(torch.int8), scale


def inputs(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A packed sequence of 3 text and 16 image tokens: bfloat16 numbers, in whatever dtype."""
    generator = torch.Generator().manual_seed(0)
    texts, side = 3, 4
    tokens = texts + side * side
    grid = torch.arange(side * side)
    positions = torch.zeros(1, tokens, 3, dtype=torch.long)
    positions[0, :texts] = torch.arange(texts)[:, None]
    positions[0, texts:] = 65536 + torch.stack([torch.zeros_like(grid), grid // side, grid % side], 1)
    return {
        "hidden_states": torch.randn(1, tokens, TINY.in_channels, generator=generator).bfloat16().to(dtype),
        "timestep": torch.tensor([0.4]).bfloat16().to(dtype),
        "encoder_hidden_states": torch.randn(1, tokens, TINY.llm_features_dim, generator=generator).bfloat16().to(dtype),
        "position_ids": positions,
        "segment_ids": torch.zeros(1, tokens, dtype=torch.long),
        "indicator": torch.tensor([[3] * texts + [2] * side * side]),
    }


@torch.no_grad()
def run(transformer, dtype: torch.dtype) -> torch.Tensor:
    return transformer(**inputs(dtype)).sample.float()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative, by the Euclidean norm."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("branch", BRANCHES)
def test_diffusers_finds_the_same_numbers(artifact, stock, branch):
    transformer, view = stock[torch.bfloat16, branch], artifact.branch(branch)
    found = {
        name for name, layer in transformer.named_modules() if type(getattr(layer, "weight", None)).__name__ == "Int8Tensor"
    }
    layers = dict(int8_layers(artifact, branch))
    assert found == layers.keys()
    for name, packed in layers.items():
        weight = transformer.get_submodule(name).weight
        assert torch.equal(weight.qdata, packed.codes) and torch.equal(weight.scale, packed.scale), name
        assert (weight.act_quant_kwargs is None) == packed.weight_only
    for name in view.names:
        parts = diffusers_names(name)
        if parts[0].removesuffix(".weight") not in layers:
            assert torch.equal(torch.cat([transformer.get_parameter(part) for part in parts]), view.read(name)), name


def test_the_config_is_what_torchao_would_write(artifact):
    from torchao.core.config import config_to_dict
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

    from ideogram_q8.builds.diffusers_folder import _CONFIGS

    config = json.loads((artifact.folder / "transformer" / "config.json").read_text())
    assert config["quantization_config"]["quant_type"]["default"] == config_to_dict(Int8DynamicActivationInt8WeightConfig())
    kind, data = _CONFIGS["w8a16"]
    assert {"_type": kind, "_version": 2, "_data": data} == config_to_dict(Int8WeightOnlyConfig())


def test_what_diffusers_saves_again_is_what_we_wrote(artifact, stock, tmp_path):
    """Its own writer gives our tensors, and our header but for torchao's own order of names."""
    stock[torch.bfloat16, "conditional"].save_pretrained(tmp_path)
    ours, theirs = (
        read_all(place / "diffusion_pytorch_model.safetensors") for place in (artifact.folder / "transformer", tmp_path)
    )
    assert ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(tensor, theirs[0][name]) for name, tensor in ours[0].items())
    assert {name: text for name, text in ours[1].items() if not name.startswith(("model_type", "ideogram_q8."))} == theirs[1]


def read_all(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = {
            name: sorted(json.loads(text)) if name == "tensor_names" else json.loads(text) if text[0] == "{" else text
            for name, text in file.metadata().items()
        }
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_computes_what_ours_does(artifact, stock, monkeypatch, dtype):
    """Both hold the exact int32 product. torchao rounds to `dtype` once between its two scales, and once at the end, as we do."""
    monkeypatch.setattr(kernel.int8, "quantize_per_token", torchao_rule)
    x = torch.randn(5, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    half_step = BF16_STEP / 2 if dtype == torch.bfloat16 else 2.0**-24
    for name, packed in int8_layers(artifact, "conditional"):
        layer = stock[dtype, "conditional"].get_submodule(name)
        values = x[:, : layer.in_features]
        theirs = layer(values).float()
        bias = None if layer.bias is None else layer.bias.float()
        if (
            packed.weight_only
        ):  # codes and scale each rounded to `dtype`, the product too; sums of the product may differ in order
            exact = functional.linear(
                values.double(), packed.codes.double() * packed.scale.double(), None if bias is None else bias.double()
            )
            size = functional.linear(values.double().abs(), (packed.codes.double() * packed.scale.double()).abs())
            assert ((theirs.double() - exact).abs() <= 2 * half_step * (size + 4 * exact.abs())).all(), name
            continue
        ours = int8_linear(values, packed.codes, packed.scale, bias).float()
        assert ((theirs - ours).abs() <= 4 * half_step * ours.abs() + 1e-30).all(), name


@torch.no_grad()
def test_a_token_is_quantized_elsewhere_by_half_a_step_of_each_rule_at_most(artifact, stock):
    """Each by its own rule, float32: inputs are off by half of either's scale, so an output by what that adds up to over its weights."""
    x = torch.randn(5, 256, generator=torch.Generator().manual_seed(1))
    for name, packed in int8_layers(artifact, "conditional"):
        layer = stock[torch.float32, "conditional"].get_submodule(name)
        values = x[:, : layer.in_features]
        theirs = layer(values)
        ours = Int8Linear(packed, layer.bias)(values)
        steps = 0.0 if packed.weight_only else (torchao_rule(values)[1] + int8.quantize_per_token(values)[1]) / 2
        size = (packed.codes.float() * packed.scale).abs().sum(1)
        assert ((theirs - ours).abs() <= (steps + 2.0**-20 * values.abs().amax(1, keepdim=True)) * size).all(), name


@pytest.fixture(scope="module", params=["w8a16", "w8a8"])
def alike(request, tmp_path_factory) -> Artifact:
    """A folder in which all Linears of the blocks have one scheme."""
    place = tmp_path_factory.mktemp(request.param)
    quantize(open_source(write_source(place / "source")), all_alike(request.param), place / "single")
    convert(place / "single", "diffusers", place / "folder")
    return open_artifact(place / "folder")


@pytest.mark.parametrize("branch", BRANCHES)
def test_the_whole_model_equals_ours(alike, branch, monkeypatch):
    """With torchao's rule for tokens, where there is one: bit for bit in W8A8 (float32), to sums in another order with weight-only int8.
    In bfloat16 no farther from ours than two models are that round independently, and each rounds as much as ours does."""
    monkeypatch.setattr(kernel.int8, "quantize_per_token", torchao_rule)
    exact, ours = (run(build_transformer(alike.branch(branch), TINY, CPU, dtype), dtype) for dtype in DTYPES)
    their_exact, theirs = (run(opened(alike, branch, dtype), dtype) for dtype in DTYPES)
    assert distance(their_exact, exact) <= (2.0**-20 if alike.recipe.policy == "w8a16" else 0)
    rounding = distance(ours, exact)
    assert 0 < rounding < 4 * BF16_STEP
    assert distance(theirs, ours) < 2**0.5 * rounding


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_model_computes_nearly_what_ours_does(artifact, stock, dtype):
    """Each by its own rule: as far from each other as two independent quantizations of activations, and roundings in bfloat16."""
    for branch in BRANCHES:
        exact, ours = (run(build_transformer(artifact.branch(branch), TINY, CPU, d), d) for d in (torch.float32, dtype))
        bound = 2**0.5 * (quantization_error(artifact, branch) ** 2 + distance(ours, exact) ** 2) ** 0.5
        assert 0 < distance(run(stock[dtype, branch], dtype), ours) < bound


def quantization_error(artifact: Artifact, branch: Branch) -> float:
    """How far our output is, in float32, from that of the same weights with activations as they are."""
    quantized, plain = (build_transformer(artifact.branch(branch), TINY, CPU, torch.float32) for _ in range(2))
    for layer in plain.modules():
        if isinstance(layer, Int8Linear):
            layer.weight_only = True
    return distance(run(quantized, torch.float32), run(plain, torch.float32))
