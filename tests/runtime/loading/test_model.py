"""What is on disk is what runs, for every variant; damaged folders are named."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.functional.image import peak_signal_noise_ratio

from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.opening import open_weights
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, ResourceError, SourceError
from ideogram_q8.model.architecture import BRANCHES, TEXT_PROJECTION, Branch, diffusers_names, linears
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, encode_caption, generate, steps
from ideogram_q8.runtime.layers.packed import Fp8Linear, GgmlLinear, Int8Linear, PackedLinear
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.loading.networks import NotLoaded, load_tokenizer, load_vae
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.sources import open_source
from tests.stock import stock_pipeline, stock_transformer

pytestmark = pytest.mark.slow

LAYERS = {"int8": Int8Linear, "q8_0": GgmlLinear, "q4_k_s": GgmlLinear}
PLAIN = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    source = open_source("pocket")
    for scheme in LAYERS:
        quantize(source, choose(scheme, source.config), folder / scheme)
    return {scheme: folder / scheme for scheme in LAYERS}


@pytest.fixture
def broken_source(tmp_path: Path) -> Path:
    """A copy of the pocket to damage."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "source"))


def packed_layers(module: nn.Module) -> dict[str, PackedLinear]:
    return {name: child for name, child in module.named_modules() if isinstance(child, PackedLinear)}


def runs(name: str, branch: Branch) -> bool:
    """Whether a branch needs a Linear: the unconditional one reads no caption."""
    return branch == "conditional" or name not in TEXT_PROJECTION


def test_the_unconditional_branch_has_no_text_projection() -> None:
    model = load("pocket")
    for name in TEXT_PROJECTION:
        assert not list(model.branches["unconditional"].get_submodule(name).parameters())
        assert isinstance(model.branches["unconditional"].get_submodule(name), NotLoaded)
    with pytest.raises(AssertionError, match="the unconditional branch reads no caption"):
        model.branches["unconditional"].llm_cond_proj(torch.zeros(1))
    sizes = {branch: usage.module_bytes(model.branches[branch]) for branch in BRANCHES}
    features, hidden = model.config.llm_features_dim, model.config.hidden_size
    assert sizes["conditional"] - sizes["unconditional"] == features * 4 + features * hidden + 2 * hidden * 4


@pytest.mark.parametrize("branch", BRANCHES)
def test_the_source_runs_as_it_is_stored(branch: Branch) -> None:
    model = load("pocket")
    transformer = model.branches[branch]
    layers = packed_layers(transformer)
    names = {
        diffusers.removesuffix(".weight")
        for linear in linears(model.config)
        if runs(linear.name, branch)
        for diffusers in diffusers_names(f"{linear.name}.weight")
    }
    assert layers.keys() == names
    assert all(isinstance(layer, Fp8Linear) for layer in layers.values())
    folder = WEIGHTS / ("transformer" if branch == "conditional" else "unconditional_transformer")
    stock = stock_transformer(folder)
    generator = torch.Generator().manual_seed(0)
    for name, layer in layers.items():
        linear = stock.get_submodule(name)
        x = torch.randn(3, layer.in_features, generator=generator)
        assert torch.equal(layer(x), functional.linear(x, linear.weight, linear.bias)), name
    for name, parameter in transformer.named_parameters():
        assert torch.equal(parameter, stock.get_parameter(name)), name
    assert model.variant == "fp8" and model.source == "pocket" and not transformer.training


@pytest.mark.parametrize("scheme", LAYERS)
def test_an_artifact_runs_as_it_is_stored(artifacts: dict[str, Path], scheme: str) -> None:
    model, artifact = load(artifacts[scheme]), open_artifact(artifacts[scheme])
    assert (model.variant, model.artifact_sha256) == (scheme, artifact.manifest.artifact_sha256)
    for branch in BRANCHES:
        transformer, stored = model.branches[branch], artifact.branch(branch)
        for linear in linears(model.config):
            if not runs(linear.name, branch):
                continue
            packed = stored.packed(linear.name)
            parts = [name.removesuffix(".weight") for name in diffusers_names(f"{linear.name}.weight")]
            layers = [transformer.get_submodule(name) for name in parts]
            if packed is None:
                weight = torch.cat([layer.get_parameter("weight") for layer in layers])
                assert torch.equal(weight, stored.read(f"{linear.name}.weight").float()), linear.name
                continue
            assert all(isinstance(layer, LAYERS[scheme]) for layer in layers)
            key = "codes" if scheme == "int8" else "data"
            assert torch.equal(torch.cat([layer.get_buffer(key) for layer in layers]), getattr(packed, key)), linear.name


@pytest.mark.parametrize(("scheme", "decibels"), [("int8", 25), ("q8_0", 30), ("q4_k_s", 15)])
def test_an_artifact_paints_nearly_what_its_source_paints(artifacts: dict[str, Path], scheme: str, decibels: float) -> None:
    request = Request(PLAIN, 5, "turbo-12", 64, 64)
    images = [generate(load(place), request).image for place in ("pocket", artifacts[scheme])]
    pixels = [torch.from_numpy(np.array(image, dtype=np.float32)) for image in images]
    assert peak_signal_noise_ratio(pixels[1], pixels[0], data_range=255.0) > decibels


def test_a_smaller_variant_holds_less(artifacts: dict[str, Path]) -> None:
    sizes = {name: usage.module_bytes(*load(place).branches.values()) for name, place in artifacts.items()}
    assert sizes["q4_k_s"] < sizes["q8_0"] and sizes["q4_k_s"] < sizes["int8"]


def test_the_text_encoder_is_the_stock_one() -> None:
    model, stock = load("pocket"), stock_pipeline(WEIGHTS)
    expected, *_ = stock.encode_prompt(PLAIN, 1, 1, 64, torch.device("cpu"))
    conditional = stock.transformer
    with torch.no_grad():
        projected = conditional.llm_cond_proj(conditional.llm_cond_norm(expected[0, :-1]))
    found = encode_caption(model, PLAIN)
    assert torch.allclose(found, projected[-found.shape[0] :], atol=1e-4)
    assert not any("visual" in name for name, _ in model.text_encoder.named_modules())


def test_packed_weights_survive_a_cast() -> None:
    transformer = load("pocket", dtype=torch.bfloat16).branches["conditional"]
    assert {p.dtype for p in transformer.parameters()} == {torch.bfloat16}
    layer = packed_layers(transformer)["layers.0.feed_forward.w2"]
    assert layer.get_buffer("weight").dtype == torch.float8_e4m3fn and layer.get_buffer("scale").dtype == torch.float32
    assert transformer.rotary_emb.inv_freq.dtype == torch.float32


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        path.write_text("{not json")


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("vae/config.json", "missing"),
        ("vae/config.json", "mislabelled"),
        ("vae/diffusion_pytorch_model.safetensors", "missing"),
        ("vae/diffusion_pytorch_model.safetensors", "truncated"),
        ("tokenizer/tokenizer.json", "missing"),
        ("text_encoder/model.safetensors", "missing"),
        ("text_encoder/model.safetensors", "truncated"),
        ("text_encoder/config.json", "mislabelled"),
    ],
)
def test_a_damaged_part_is_named(broken_source: Path, file: str, how: str) -> None:
    damage(broken_source / file, how)
    with pytest.raises(SourceError, match=file.replace(".", r"\.")) as caught:
        _ = load(broken_source).text_encoder
    assert "\n" not in str(caught.value)


def test_a_vae_that_does_not_fit_its_config_is_named(broken_source: Path) -> None:
    path = broken_source / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latent_channels": 8}))
    with pytest.raises(SourceError, match=r"vae/diffusion_pytorch_model\.safetensors does not fit its config\.json"):
        load(broken_source)


WRONG = ("text", -1, 1 << 40, None, ["text"])


@pytest.mark.parametrize("value", WRONG)
def test_a_vae_config_with_wrong_values_is_refused_or_understood(tmp_path: Path, value: object) -> None:
    shutil.copytree(WEIGHTS / "vae", tmp_path / "vae")
    path = tmp_path / "vae" / "config.json"
    values = json.loads(path.read_text())
    for name in values:
        path.write_text(json.dumps(values | {name: value}))
        with contextlib.suppress(SourceError):
            load_vae(tmp_path / "vae", torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("value", WRONG)
def test_a_tokenizer_with_wrong_values_is_refused_or_understood(tmp_path: Path, value: object) -> None:
    folder = Path(shutil.copytree(WEIGHTS / "tokenizer", tmp_path / "tokenizer"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        before = (folder / file).read_text(encoding="utf-8")
        values = json.loads(before)
        for name in values:
            (folder / file).write_text(json.dumps(values | {name: value}), encoding="utf-8")
            with contextlib.suppress(SourceError):
                load_tokenizer(folder)
        (folder / file).write_text(before, encoding="utf-8")
    (folder / "tokenizer.json").write_text('{"model": 3}', encoding="utf-8")
    with pytest.raises(SourceError, match=r"tokenizer\.json cannot be used \("):
        load_tokenizer(folder)


def test_an_opened_source_or_artifact_is_loaded_like_its_location(artifacts: dict[str, Path]) -> None:
    for place in ("pocket", artifacts["int8"]):
        by_place, opened = load(place), load(open_weights(place))
        assert (by_place.artifact_sha256, by_place.source, by_place.folder) == (
            opened.artifact_sha256,
            opened.source,
            opened.folder,
        )
    with pytest.raises(ArtifactError, match="is an artifact; expected no unconditional file and no revision"):
        load(artifacts["int8"], revision="main")
    with pytest.raises(SourceError, match="has no revision 'main'"):
        load("pocket", revision="main")


def test_an_artifact_of_two_single_files_finds_the_rest_beside_the_first(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "checkpoint"))
    files = [folder / f"{branch}.safetensors" for branch in BRANCHES]
    for file, part in zip(files, ("transformer", "unconditional_transformer"), strict=True):
        (folder / part / "diffusion_pytorch_model.safetensors").rename(file)
        shutil.copy(folder / part / "config.json", folder / "config.json")
    source = open_source(files[0], unconditional=files[1])
    quantize(source, choose("int8", source.config), tmp_path / "int8")
    model = load(tmp_path / "int8")
    assert (model.source, model.folder) == (str(files[0]), folder)
    assert load(source).artifact_sha256 == load("pocket").artifact_sha256
    files[0].unlink()
    with pytest.raises(SourceError, match="no folder"):
        load(tmp_path / "int8")


def test_a_text_encoder_that_lacks_a_layer_is_named(broken_source: Path) -> None:
    path = broken_source / "text_encoder" / "config.json"
    values = json.loads(path.read_text())
    values["text_config"]["num_hidden_layers"] += 1
    values["text_config"].pop("layer_types", None)
    path.write_text(json.dumps(values))
    with pytest.raises(
        SourceError, match=r"model\.safetensors is not the model .*: language_model\.layers\.36\..* is missing; "
    ):
        _ = load(broken_source).text_encoder


@pytest.mark.parametrize("location", ["no/such/folder", "."])
def test_a_place_with_no_model_is_refused(location: str) -> None:
    with pytest.raises(IdeogramQ8Error):
        load(location)


def test_weights_that_cannot_fit_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "available_bytes", lambda device: 1000)
    with pytest.raises(ResourceError, match=r"cpu has 0\.0 GB free, variant fp8 needs about"):
        load("pocket")


def test_a_picture_that_cannot_fit_is_refused_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("pocket")
    monkeypatch.setattr(usage, "predict", lambda *_: usage.Placement(2**60, 0, 0, True))
    with pytest.raises(ResourceError, match="a picture of 128x64 needs about"):
        steps(model, Request(PLAIN, 1, "turbo-12", 128, 64))


@pytest.mark.parametrize("plan", budget.PLANS, ids=lambda plan: plan.key)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_picture_takes_what_the_first_takes(plan: budget.Plan, dtype: torch.dtype) -> None:
    model = load("pocket", plan=plan, dtype=dtype)
    before = model.placement(64, 64)
    assert model.text_encoder is not None
    assert model.placement(64, 64) == before


def test_what_of_the_text_encoder_stays_in_host_memory_is_not_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = load("pocket", plan=budget.plan_named("encoder", "cuda")), []
    inner = usage.predict
    monkeypatch.setattr(usage, "available_bytes", lambda _: 10**12)
    monkeypatch.setattr(usage, "predict", lambda *args: given.append(args[2]) or inner(*args))
    elsewhere = usage.module_bytes(model.text_encoder.embed_tokens)
    model.placement(64, 64)
    model.text_encoder.embed_tokens.to("meta")  # any other device
    model.placement(64, 64)
    assert elsewhere and given[0] - given[1] == elsewhere


def test_the_text_encoder_goes_where_there_is_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("pocket")
    monkeypatch.setattr(usage, "predict", lambda *_: usage.Placement(0, 0, 0, False))
    next(steps(model, Request(PLAIN, 1, "turbo-12", 64, 64)))
    assert model._text_encoder is None
