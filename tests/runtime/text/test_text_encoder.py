"""The text encoder as a component: what it consists of, folded without a changed bit, built, converted, read and painted with."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3VLConfig, Qwen3VLModel

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.conversion import convert
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.calibration.run import EncoderJob, calibrate
from ideogram_q8.captions.calibration import named_captions
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.model.architecture import Linear
from ideogram_q8.model.components import TextEncoderConfig, component
from ideogram_q8.numerics import smoothing
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.policies.measurement import recipe_errors
from ideogram_q8.policies.paper import paper
from ideogram_q8.recipes import Part, Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import Folding, fold_points
from ideogram_q8.recipes.table import explain
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.loading.networks import build_text_encoder
from ideogram_q8.runtime.loading.text_encoder import load_text_encoder
from ideogram_q8.sources import open_source, open_text_encoder
from tests.folded import Folded
from tests.synthetic import TINY, float_tensors
from tests.text_encoders import TINY_ENCODER, VALUES, write_text_encoder

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
POINTS = fold_points(TINY_ENCODER)
IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_text_encoder(write_text_encoder(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Smoothed everywhere, with protected and weight-only Linears."""
    part = choose("int8", TINY_ENCODER).parts["text_encoder"]
    schemes = {"language_model.layers.0.mlp.down_proj": "bf16", "language_model.layers.1.self_attn.k_proj": "w8a16"}
    layers = tuple(replace(plan, scheme=schemes.get(plan.linear, plan.scheme)) for plan in part.layers)
    smooth = tuple(Smoothing(fold, smoothing.encode(e)) for fold, e in random_exponents(1, 1).items())
    return replace(choose("int8", TINY_ENCODER), policy="mixed", parts={"text_encoder": Part(layers, smooth)})


@pytest.fixture(scope="module")
def single(source, recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "single"
    quantize(source, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def folder(single) -> Path:
    convert(single, "diffusers", single.parent / "folder")
    return single.parent / "folder"


def random_exponents(seed: int, largest: int, folds=POINTS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f: torch.randint(-largest, largest + 1, (POINTS[f].width,), generator=generator).to(torch.int8) for f in folds}


@torch.no_grad()
def answer(reader, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return build_text_encoder(reader, TINY_ENCODER, CPU, dtype)(input_ids=IDS, use_cache=False).last_hidden_state


def folded(source, exponents: dict[str, torch.Tensor]) -> Folded:
    part = Part((), tuple(Smoothing(fold, smoothing.encode(e)) for fold, e in exponents.items()))
    return Folded(source.branch("text_encoder"), Folding(part, TINY_ENCODER))


def files(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


# ---- what it consists of ----


def test_the_tensors_are_those_of_transformers():
    with torch.device("meta"):
        stock = Qwen3VLModel(Qwen3VLConfig.from_dict(VALUES))
    assert {name: tuple(value.shape) for name, value in stock.state_dict().items()} == dict(component(TINY_ENCODER).shapes)
    kinds = {
        name: Linear(name, module.out_features, module.in_features, module.bias is not None)
        for name, module in stock.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert {linear.name: linear for linear in component(TINY_ENCODER).linears} == kinds


def test_the_real_one_has_368_linears():
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "vocab_size": 151936, "head_dim": 128}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16, "out_hidden_size": 4096}
    vision |= {"num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]}
    config = TextEncoderConfig.from_json(
        {
            "model_type": "qwen3_vl",
            "text_config": {**text, **heads},
            "vision_config": {"in_channels": 3, "temporal_patch_size": 2, "spatial_merge_size": 2, **vision},
        }
    )
    found = component(config).linears
    assert len(found) == 368 and sum(linear.runs for linear in found) == 252
    assert sum(linear.out_features * linear.in_features for linear in found if linear.runs) / 1e9 == pytest.approx(
        6.946, abs=5e-4
    )


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        (None, "model_type", "llama", "model_type is 'llama', expected 'qwen3_vl'"),
        ("text_config", "num_hidden_layers", 0, "num_hidden_layers is 0, expected 1 to 1024"),
        ("text_config", "attention_bias", True, "attention_bias is set"),
        ("text_config", "num_key_value_heads", 4, "6 heads in 4 groups"),
        ("vision_config", "depth", 10**9, "depth is 1000000000, expected 1 to 1024"),
        ("vision_config", "deepstack_visual_indexes", None, "deepstack_visual_indexes is None"),
        (None, "vision_config", [], r"vision_config is '\[\]', expected an object"),
    ],
)
def test_dimensions_of_another_model_are_refused(where, key, value, message):
    values = json.loads(json.dumps(VALUES))
    (values if where is None else values[where])[key] = value
    with pytest.raises(SourceError, match=message):
        TextEncoderConfig.from_json(values)


def test_all_that_is_wrong_is_listed(tmp_path):
    def spoil(tensors):
        del tensors["language_model.layers.1.mlp.up_proj.weight"], tensors["visual.merger.norm.bias"]
        tensors["language_model.norm.weight"] = torch.ones(3, dtype=torch.bfloat16)
        return {**tensors, "lm_head.weight": torch.ones(2, 2, dtype=torch.bfloat16)}

    with pytest.raises(SourceError, match="is not the model that its dimensions describe") as caught:
        open_text_encoder(write_text_encoder(tmp_path, spoil))
    assert sorted(caught.value.problems) == [
        "language_model.layers.1.mlp.up_proj.weight is missing",
        "language_model.layers.1.mlp.up_proj.weight_scale is unknown",
        "language_model.norm.weight is BF16 [3], expected BF16 or F16 or F32 [64]",
        "lm_head.weight is unknown",
        "visual.merger.norm.bias is missing",
    ]
    with pytest.raises(SourceError, match="no folder 'nowhere'; expected 'pocket', a folder with text_encoder or a Hub"):
        open_text_encoder("nowhere")


def test_bfloat16_is_read_like_fp8(source, tmp_path):
    def multiplied(tensors):
        reader = source.branch("text_encoder")
        return {name: reader.read(name) for name in float_tensors(tensors)}

    plain = open_text_encoder(write_text_encoder(tmp_path, multiplied)).branch("text_encoder")
    fp8 = source.branch("text_encoder")
    assert plain.layout == "BF16, fused" and plain.names == fp8.names
    assert all(torch.equal(plain.read(name), fp8.read(name)) for name in fp8.names)


# ---- folding ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("largest", [1, 15])
def test_the_folded_encoder_answers_with_the_same_bits(source, dtype, largest):
    plain = answer(folded(source, {}), dtype)
    assert plain.isfinite().all() and plain.abs().amax() > 0
    assert torch.equal(answer(folded(source, random_exponents(2, largest)), dtype), plain)


@pytest.mark.parametrize("fold", [name for name in POINTS if ".layers.1." in name])
def test_each_fold_point_does_so_alone_and_half_of_it_does_not(source, fold):
    plain, both = answer(folded(source, {})), folded(source, random_exponents(3, 4, [fold]))
    assert torch.equal(answer(both), plain)

    class Half(Folding):
        def apply(self, name, tensor, start=0):
            return tensor if name == POINTS[fold].producer else super().apply(name, tensor, start)

    texts = tuple(Smoothing(f, smoothing.encode(e)) for f, e in random_exponents(3, 4, [fold]).items())
    assert not torch.equal(answer(replace(both, folding=Half(Part((), texts), TINY_ENCODER))), plain)


def test_queries_of_a_group_share_a_channel():
    point = POINTS["language_model.layers.0.self_attn.v_proj"]
    assert (point.width, point.run, point.copies) == (64, 32, 3)
    channels = torch.arange(64)
    spread = point.spread(channels)
    heads = spread.view(6, 32)
    assert all(torch.equal(heads[head], channels.view(2, 32)[head // 3]) for head in range(6))
    assert torch.equal(point.gather(spread), channels)
    assert point.gather(torch.arange(192))[0] == 64  # the largest of columns 0, 32 and 64


# ---- files ----


def test_a_round_trip_gives_the_same_bytes(single, folder, tmp_path):
    assert set(files(single)) == {"manifest.json", "ideogram4-text-encoder-int8.safetensors"}
    assert set(files(folder)) == {"manifest.json", "text_encoder/config.json", "text_encoder/model.safetensors"}
    convert(folder, "single", tmp_path / "back")
    assert files(tmp_path / "back") == files(single)


def test_what_is_stored_is_what_the_recipe_says(source, single, folder):
    one, other = (open_artifact(place, verify=True).branch("text_encoder") for place in (single, folder))
    reader, folding = source.branch("text_encoder"), folded(source, random_exponents(1, 1)).folding
    weights = {f"{linear.name}.weight": linear.name for linear in component(TINY_ENCODER).linears}
    for name in reader.names:
        packed, twin = (view.packed(weights[name]) if name in weights else None for view in (one, other))
        weight = folding.apply(name, reader.read(name))
        if packed is None:
            assert torch.equal(one.read(name), weight) and torch.equal(other.read(name), weight), name
            continue
        assert isinstance(packed, Int8Weight) and isinstance(twin, Int8Weight) and not name.startswith("visual.")
        assert torch.equal(packed.codes, twin.codes) and torch.equal(packed.scale, twin.scale)
        assert ((packed.codes * packed.scale - weight.float()).abs() <= packed.scale * 0.501).all()
    assert sum(".comfy_quant" in name for name in load_file(single / "ideogram4-text-encoder-int8.safetensors")) == 13


def test_our_loader_reads_both_forms(single, folder, source):
    one, other = (answer(open_artifact(place).branch("text_encoder")) for place in (single, folder))
    exact = answer(folded(source, {}))
    assert torch.equal(one, other)
    assert distance(one, exact) < 0.1  # exponents at random make it worse than it is


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_stock_transformers_opens_the_folder_and_agrees(source, folder, monkeypatch):
    """By torchao's rule for the scale of a token (tests/interop) nearly to the bit, by ours within the error of quantizing."""
    pytest.importorskip("torchao", reason="pip install --no-deps torchao==0.18.0 accelerate==1.15.0")
    pytest.importorskip("accelerate", reason="transformers loads quantized models with it")
    stock, report = Qwen3VLModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stored = load_file(folder / "text_encoder" / "model.safetensors")
    found = stock.language_model.layers[0].self_attn.q_proj.weight
    assert torch.equal(found.qdata, stored["language_model.layers.0.self_attn.q_proj._weight_qdata"])
    assert type(stock.visual.blocks[0].attn.qkv.weight) is torch.nn.Parameter
    with torch.no_grad():
        theirs = stock.language_model(input_ids=IDS, use_cache=False).last_hidden_state
    reader, exact = open_artifact(folder).branch("text_encoder"), answer(folded(source, {}))
    error = distance(answer(reader), exact)
    assert 0 < distance(theirs, answer(reader)) < 2 * error

    from ideogram_q8.runtime.kernels.linear import int8 as kernel
    from tests.interop.test_diffusers_folder import torchao_rule

    monkeypatch.setattr(kernel.int8, "quantize_per_token", torchao_rule)
    assert distance(theirs, answer(reader)) < error / 4


def test_a_rotated_encoder_computes_nearly_the_same(source, tmp_path):
    part = choose("int8", TINY_ENCODER).parts["text_encoder"]
    layers = tuple(replace(plan, rotation=64 if plan.scheme == "w8a8" else 0) for plan in part.layers)
    rotated = replace(choose("int8", TINY_ENCODER), policy="rotated", parts={"text_encoder": Part(layers, ())})
    quantize(source, rotated, tmp_path / "rotated")
    exact = answer(folded(source, {}))
    assert distance(answer(open_artifact(tmp_path / "rotated").branch("text_encoder")), exact) < 0.06
    with pytest.raises(ArtifactError, match="no rotation, and 14 Linears of text_encoder are rotated"):
        convert(tmp_path / "rotated", "diffusers", tmp_path / "out")


def test_recipes_of_the_other_component_are_refused(source, tmp_path):
    with pytest.raises(ArtifactError, match="is for conditional and unconditional, not for text_encoder"):
        quantize(source, choose("int8", TINY), tmp_path / "out")
    with pytest.raises(ArtifactError, match="parts are text_encoder, conditional; expected"):
        made = choose("int8", TINY_ENCODER)
        Recipe.from_json(replace(made, parts={**made.parts, "conditional": made.parts["text_encoder"]}).to_json())


def test_the_table_of_a_recipe_names_the_vision_tower_once():
    text = explain(choose("int8", TINY_ENCODER))
    assert "int8, text_encoder: 14 w8a8, 14 bf16" in text
    assert text.count("vision tower, which no caption runs") == 10
    assert "language_model.layers.*.mlp.up_proj" in text and "visual.blocks.*.attn.qkv" in text
    assert "width 64 is no multiple of 256" in explain(convrot(TINY_ENCODER))


# ---- the pocket's ----


@pytest.fixture(scope="module")
def pocket(tmp_path_factory) -> Path:
    """Artifacts of the pocket's text encoder: naive, and paper from two captions."""
    place = tmp_path_factory.mktemp("pocket")
    source = open_text_encoder("pocket")
    encoder = load_text_encoder(source)
    stats = calibrate(encoder, named_captions("pocket")[:2], EncoderJob(source.record(), source.config, 16))
    stats.check(source.config)
    assert len(stats.entries) == 36 * 4 and {part for part, _ in stats.entries} == {"text_encoder"}
    recipe = paper(stats, source)
    assert sum(plan.scheme == "bf16" for plan in recipe.parts["text_encoder"].layers) == 18 + 8
    errors = recipe_errors(recipe, stats, source)["text_encoder"]
    assert len(errors) == 252 and max(errors.values()) < 10**-3
    quantize(source, choose("int8", source.config), place / "naive")
    quantize(source, recipe, place / "paper")
    return place


@pytest.mark.parametrize("policy", ["naive", "paper"])
def test_pictures_are_nearly_those_of_the_fp8_encoder(pocket, policy):
    request = Request(named_captions("pocket")[5], 5, "turbo-12", 64, 64)
    reference, model = generate(load("pocket"), request), load("pocket", text_encoder=pocket / policy)
    result = generate(model, request)
    assert model.variant == f"fp8, text encoder {'int8' if policy == 'naive' else 'int8-paper'}"
    assert result.artifact_sha256 != reference.artifact_sha256
    error = (np.asarray(result.image, np.float64) - np.asarray(reference.image, np.float64)) ** 2
    assert 10 * math.log10(255**2 / max(error.mean(), 1e-9)) > 55


def test_an_artifact_in_the_other_ones_place_is_refused(pocket, tmp_path):
    with pytest.raises(ArtifactError, match="holds a text encoder; expected transformers"):
        load(pocket / "naive")
    source = open_source("pocket")
    quantize(source, choose("int8", source.config), tmp_path / "int8")
    with pytest.raises(ArtifactError, match="holds transformers; expected what `quantize --component text_encoder` wrote"):
        load("pocket", text_encoder=tmp_path / "int8")


def test_the_commands(tmp_path, capsys):
    place = str(write_text_encoder(tmp_path / "source"))
    make = ["recipe", "make", place, "--component", "text_encoder", "--out", str(tmp_path / "recipe.json")]
    assert main([*make, "--policy", "convrot"]) == 0
    built = ["quantize", place, "--component", "text_encoder", "--recipe", str(tmp_path / "recipe.json")]
    assert main([*built, "--out", str(tmp_path / "out")]) == 0
    assert "int8-convrot" in capsys.readouterr().out
    reading = [
        "calibrate",
        place,
        "--component",
        "text_encoder",
        "--captions",
        "pocket",
        "--out",
        str(tmp_path / "s.safetensors"),
    ]
    for arguments, message in (
        ([*make, "--policy", "gguf"], "for a text encoder expected another policy"),
        ([*built, "--out", str(tmp_path / "x"), "--unconditional", "file"], "--unconditional names a transformer"),
        ([*reading, "--preset", "turbo-12"], "--preset is about painting"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
