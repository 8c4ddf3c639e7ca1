"""What `quantize` writes: what foreign readers find in the files, and that nothing but source and recipe shows in them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import gguf
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.layout import Packaging, file_name
from ideogram_q8.builds.quantization import Progress, quantize
from ideogram_q8.builds.quantization.part import PartJob
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.architecture import BRANCHES, linears
from ideogram_q8.model.schemes import NAMED_SCHEMES
from ideogram_q8.numerics import smoothing
from ideogram_q8.recipes import Part, Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import fold_points
from ideogram_q8.sources import open_source
from tests.quantizing import files_of
from tests.synthetic import TINY, write_source


@pytest.mark.parametrize("scheme", NAMED_SCHEMES)
def test_the_manifest_tells_what_is_there(source, built, scheme):
    manifest = Manifest.from_json((built[scheme] / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in built[scheme].iterdir()} == {"manifest.json"} | {file.path for file in manifest.files}
    assert [file.path for file in manifest.files] == [file_name(scheme, branch) for branch in BRANCHES]
    assert (manifest.variant, manifest.scheme, manifest.source) == (scheme, scheme, source.record())
    assert open_artifact(built[scheme], verify=True).manifest == manifest


def test_names_of_files():
    assert file_name("int8", "conditional") == "ideogram4-int8.safetensors"
    assert file_name("int8", "unconditional") == "ideogram4-unconditional-int8.safetensors"
    assert file_name("q8_0", "conditional") == "ideogram4-Q8_0.gguf"
    assert file_name("q4_k_m", "unconditional") == "ideogram4-unconditional-Q4_K_M.gguf"


def test_int8_files_have_the_layout_of_comfyui(source, built):
    path = built["int8"] / "ideogram4-int8.safetensors"
    stored = load_file(path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["model_type"] == "ideogram4_cond"
    reader = source.branch("conditional")
    int8_linears = [linear.name for linear in linears(TINY) if linear.sees_tokens]
    assert set(stored) == set(reader.names) | {f"{n}.{leaf}" for n in int8_linears for leaf in ("weight_scale", "comfy_quant")}
    for name in int8_linears:
        marker, codes, scale = (stored[f"{name}.{leaf}"] for leaf in ("comfy_quant", "weight", "weight_scale"))
        assert json.loads(bytes(marker.numpy())) == {"format": "int8_tensorwise"}
        assert codes.dtype == torch.int8 and scale.dtype == torch.float32 and scale.shape == (len(codes), 1)
        weight = reader.read(f"{name}.weight").float()
        assert ((codes * scale - weight).abs() <= scale * (0.5 + 2**-15)).all()
    for name in set(reader.names) - {f"{name}.weight" for name in int8_linears}:
        assert torch.equal(stored[name], reader.read(name))


def test_the_order_of_errors_is_that_of_the_bits(source, built):
    """int8 and Q8_0 are close to the source, Q4_K an order of magnitude further."""
    name = "layers.0.feed_forward.w1"
    weight = source.branch("conditional").read(f"{name}.weight").float()
    stored = load_file(built["int8"] / "ideogram4-int8.safetensors")
    decoded = {"int8": stored[f"{name}.weight"] * stored[f"{name}.weight_scale"]}
    for scheme in ("q8_0", "q4_k_s"):
        tensors = gguf.GGUFReader(built[scheme] / file_name(scheme, "conditional")).tensors
        tensor = next(tensor for tensor in tensors if tensor.name == f"{name}.weight")
        decoded[scheme] = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    error = {scheme: ((values - weight).norm() / weight.norm()).item() for scheme, values in decoded.items()}
    assert error["q8_0"] < error["int8"] < 0.01 < error["q4_k_s"] < 0.1


@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_equal_sources_give_equal_files(built, tmp_path, scheme):
    other = open_source(write_source(tmp_path / "elsewhere"))
    manifest = quantize(other, choose(scheme, other.config), tmp_path / "out")
    assert manifest.artifact_sha256 == open_artifact(built[scheme]).manifest.artifact_sha256


def test_progress_runs_from_the_first_tensor_to_the_last(source, tmp_path):
    seen: list[Progress] = []
    quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=seen.append)
    assert [progress.name for progress in seen] == 2 * list(source.branch("conditional").names)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total_bytes
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert 0 <= size - done[-1] < 100_000
    assert seen[0].seconds <= seen[-1].seconds


def test_pieces_do_not_show_in_the_files(source, tmp_path, monkeypatch):
    """Smoothed, rotated and protected Linears, computed whole and in rows."""
    recipe = mixed_recipe()
    whole = quantize(source, recipe, tmp_path / "whole")
    monkeypatch.setattr("ideogram_q8.builds.quantization.part._PIECE", 20_000)
    assert quantize(source, recipe, tmp_path / "pieces").artifact_sha256 == whole.artifact_sha256


def test_a_card_is_given_larger_pieces(source, monkeypatch):
    """A launch costs a card what a piece of a processor's size takes to compute."""
    recipe = choose("q4_k_s", source.config)
    counts = {}
    monkeypatch.setattr("ideogram_q8.builds.quantization.part._PIECE", 1000)
    monkeypatch.setattr("ideogram_q8.builds.quantization.part._PIECE_ELSEWHERE", 50_000)
    for device in ("cpu", "cuda"):
        job = PartJob(source, recipe, "conditional", "cpu", None, Packaging())
        monkeypatch.setattr(job, "device", device)
        pieces = [piece for file in job.files for piece in job.pieces(file, {})]
        counts[device] = len(pieces)
        largest = 1000 if device == "cpu" else 50_000
        for piece in pieces:
            shape = source.branch("conditional").shape(piece.name)
            assert piece.stop - piece.start == 1 or (piece.stop - piece.start) * math.prod(shape[1:]) <= largest
    assert counts["cuda"] < counts["cpu"] / 4


def mixed_recipe() -> Recipe:
    naive = choose("int8", TINY)
    generator = torch.Generator().manual_seed(0)
    smoothings = [
        Smoothing(fold, smoothing.encode(torch.randint(-5, 6, (point.width,), generator=generator).to(torch.int8)))
        for fold, point in fold_points(TINY).items()
    ]
    treated = {
        "layers.0.attention.o": {"rotation": 256},
        "layers.1.feed_forward.w2": {"scheme": "bf16"},
        "layers.1.feed_forward.w1": {"scheme": "w8a16"},
    }
    layers = tuple(replace(layer, **treated.get(layer.linear, {})) for layer in naive.parts["conditional"].layers)
    return replace(naive, policy="mixed", parts=dict.fromkeys(BRANCHES, Part(layers, tuple(smoothings))))


def test_int8_is_what_its_definition_says(source, built):
    """Written down once more, without the package: official decoding, amax / 127, nearest even."""
    stored = load_file(built["int8"] / "ideogram4-int8.safetensors")
    official = load_file(source.branch("conditional").path)
    for linear in linears(TINY):
        if not linear.sees_tokens:
            continue
        codes, scale = official[f"{linear.name}.weight"], official[f"{linear.name}.weight_scale"]
        weight = (codes.to(torch.bfloat16) * scale.to(torch.bfloat16)[:, None]).float()
        step = weight.abs().amax(1, keepdim=True) / 127
        assert torch.equal(stored[f"{linear.name}.weight_scale"], step)
        assert torch.equal(stored[f"{linear.name}.weight"], (weight / step).round().to(torch.int8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scheme", NAMED_SCHEMES)
def test_the_device_does_not_show_in_the_files(source, built, tmp_path, scheme):
    quantize(source, choose(scheme, source.config), tmp_path / "out", device="cuda")
    assert files_of(tmp_path / "out") == files_of(built[scheme])


def test_overwriting_replaces_another_scheme(source, tmp_path):
    quantize(source, choose("int8", source.config), tmp_path / "out")
    with pytest.raises(ArtifactError, match="use --overwrite"):
        quantize(source, choose("q8_0", source.config), tmp_path / "out")
    quantize(source, choose("q8_0", source.config), tmp_path / "out", overwrite=True)
    assert open_artifact(tmp_path / "out").variant == "q8_0"
    assert not list((tmp_path / "out").glob("*.safetensors"))
