"""Single files and diffusers' folders: the same numbers, there and back, and what cannot be converted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.conversion import convert
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.model.architecture import BRANCHES, linears
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.interop.recipes import MIXED, changed
from tests.synthetic import TINY, write_source

WEIGHT_FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def single(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "single"
    quantize(source, MIXED, folder)
    return folder


@pytest.fixture(scope="module")
def folder(single) -> Path:
    convert(single, "diffusers", single.parent / "diffusers")
    return single.parent / "diffusers"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_trip_gives_the_same_bytes(single, folder, tmp_path):
    convert(folder, "single", tmp_path / "back")
    assert files(tmp_path / "back") == files(single)
    convert(tmp_path / "back", "diffusers", tmp_path / "again")
    assert files(tmp_path / "again") == files(folder)


def test_both_forms_open_as_the_same_artifact(single, folder):
    one, other = open_artifact(single, verify=True), open_artifact(folder, verify=True)
    assert (one.form, other.form) == ("single", "diffusers")
    assert replace(one.manifest, files=(), tensors={}) == replace(other.manifest, files=(), tensors={})
    for branch in BRANCHES:
        a, b = one.branch(branch), other.branch(branch)
        assert a.names == b.names
        packed = {f"{linear.name}.weight": a.packed(linear.name) for linear in linears(TINY)}
        for name in a.names:
            weight = packed.get(name)
            if weight is None:
                assert torch.equal(a.read(name), b.read(name))
                continue
            twin = b.packed(name.removesuffix(".weight"))
            assert isinstance(weight, Int8Weight) and isinstance(twin, Int8Weight)
            assert torch.equal(weight.codes, twin.codes) and torch.equal(weight.scale, twin.scale)
            assert (weight.rotation, weight.weight_only) == (twin.rotation, twin.weight_only)


def test_the_folder_is_that_of_diffusers(folder):
    assert set(files(folder)) == {"manifest.json"} | {
        f"{part}/{name}" for part in ("transformer", "unconditional_transformer") for name in ("config.json", WEIGHT_FILE)
    }
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert {key: value for key, value in config.items() if key != "quantization_config"} == TINY.to_json()
    kept = config["quantization_config"]["modules_to_not_convert"]
    assert {"input_proj", "layers.0.attention.to_q", "layers.0.attention.to_v", "layers.1.feed_forward.w2"} <= set(kept)
    assert "layers.1.attention.to_q" not in kept
    stored = load_file(folder / "transformer" / WEIGHT_FILE)
    assert stored["layers.1.attention.to_k._weight_qdata"].shape == (256, 256)
    assert stored["layers.0.attention.to_k.weight"].dtype == torch.bfloat16
    with safe_open(folder / "transformer" / WEIGHT_FILE, framework="pt") as file:
        metadata = file.metadata()
    described = {name: json.loads(metadata[name]) for name in json.loads(metadata["tensor_names"])}
    assert described["layers.0.attention.to_k.weight"] == described["input_proj.bias"] == {"_type": "Tensor"}
    assert described["layers.1.attention.to_k.weight"]["_data"]["act_quant_kwargs"] is None
    assert described["layers.1.attention.to_out.0.weight"]["_data"]["act_quant_kwargs"]["_type"] == "QuantizeTensorToInt8Kwargs"


def test_what_torchao_cannot_compute_is_refused(source, tmp_path):
    rotated = changed(choose("int8", TINY), {}, {"layers.0.feed_forward.w2": 256})
    quantize(source, rotated, tmp_path / "rotated")
    with pytest.raises(
        ArtifactError, match=r"no rotation, and 1 Linears of conditional .* first is layers\.0\.feed_forward\.w2"
    ):
        convert(tmp_path / "rotated", "diffusers", tmp_path / "out")
    quantize(source, choose("q8_0", TINY), tmp_path / "q8_0")
    with pytest.raises(ArtifactError, match="q8_0 cannot be a diffusers folder: torchao stores int8"):
        convert(tmp_path / "q8_0", "diffusers", tmp_path / "out")
    with pytest.raises(RequestError, match="has the form 'single' already"):
        convert(tmp_path / "q8_0", "single", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_places_that_must_not_be_written_to_are_refused(single, folder, tmp_path):
    for out in (single, single / "inside", single.parent):
        with pytest.raises(RequestError, match="name a folder elsewhere"):
            convert(single, "diffusers", out, overwrite=True)
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "transformer").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="holds 'transformer', which is not part of an artifact"):
        convert(single, "diffusers", checkpoint, overwrite=True)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    with pytest.raises(ArtifactError, match="use --overwrite"):
        convert(single, "diffusers", copy)
    (copy / "transformer" / "config.json").unlink()
    convert(single, "diffusers", copy, overwrite=True)
    assert files(copy) == files(folder)


def test_each_form_overwrites_the_other(source, single, folder, tmp_path):
    out = Path(shutil.copytree(folder, tmp_path / "out"))
    quantize(source, MIXED, out, overwrite=True)
    assert files(out) == files(single)
    convert(single, "diffusers", out, overwrite=True)
    assert files(out) == files(folder)


def test_damage_is_found_before_anything_is_written(single, folder, tmp_path):
    spoiled = Path(shutil.copytree(single, tmp_path / "spoiled"))
    path = spoiled / "ideogram4-int8.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="has sha256"):
        convert(spoiled, "diffusers", tmp_path / "out")
    header = Path(shutil.copytree(folder, tmp_path / "header")) / "transformer" / WEIGHT_FILE
    header.write_bytes(header.read_bytes().replace(b'\\"reduce_range\\": false', b'\\"reduce_range\\": true ', 1))
    with pytest.raises(ArtifactError, match="is not what its recipe gives"):
        convert(tmp_path / "header", "single", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_the_command_converts(single, folder, tmp_path, capsys):
    assert main(["convert", str(single), "--to", "diffusers", "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == files(folder)
    assert "int8-mixed" in capsys.readouterr().out
    assert main(["convert", str(single), "--to", "single", "--out", str(tmp_path / "other")]) == 2
    assert "already" in capsys.readouterr().err
