"""Reading the official layout: values, and every way a folder can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, IDEOGRAM4_TRAITS, linears, tensor_shapes
from ideogram_q8.sources import open_source
from tests.synthetic import TINY, TINY_TRAITS, write_source

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_source(tmp_path / "source")


def edit(folder: Path, change) -> None:
    """Applies `change` to the conditional transformer's tensors."""
    path = folder / "transformer" / FILE
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refusal(location: str | Path, **arguments) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(location, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_are_multiplied_as_the_official_code_does(folder):
    source = open_source(folder)
    for branch in BRANCHES:
        stored = load_file(folder / COMPONENT_FOLDERS[branch] / FILE)
        reader = source.branch(branch)
        assert reader.names == tuple(tensor_shapes(TINY))
        for name in reader.names:
            expected = stored[name]
            if f"{name}_scale" in stored:
                expected = expected.bfloat16() * stored[f"{name}_scale"].bfloat16()[:, None]
            assert reader.read(name).dtype == torch.bfloat16
            assert torch.equal(reader.read(name), expected)
            assert reader.shape(name) == tuple(reader.read(name).shape)


def test_fp8_weights_are_handed_out_as_stored(folder):
    stored = load_file(folder / "transformer" / FILE)
    reader = open_source(folder).branch("conditional")
    for linear in linears(TINY):
        weight, scale = reader.read_fp8(f"{linear.name}.weight")
        assert torch.equal(weight.view(torch.uint8), stored[f"{linear.name}.weight"].view(torch.uint8))
        assert torch.equal(scale, stored[f"{linear.name}.weight_scale"])
    assert reader.read_fp8("input_proj.bias") is None
    assert reader.read_fp8("llm_cond_norm.weight") is None


def test_a_linear_without_scale_is_read_as_bf16(folder):
    weight = torch.ones(256, 256, dtype=torch.bfloat16)

    def unquantize(tensors):
        del tensors["t_embedding.mlp_in.weight_scale"]
        tensors["t_embedding.mlp_in.weight"] = weight

    edit(folder, unquantize)
    reader = open_source(folder).branch("conditional")
    assert reader.read_fp8("t_embedding.mlp_in.weight") is None
    assert torch.equal(reader.read("t_embedding.mlp_in.weight"), weight)


def test_what_it_is_made_for(folder, tmp_path):
    source = open_source(str(folder))
    assert (source.traits, source.config) == (TINY_TRAITS, TINY)
    assert source.location == str(folder.resolve())
    assert open_source(write_source(tmp_path / "other", traits=None)).traits == IDEOGRAM4_TRAITS


def test_the_record_has_both_files(folder, tmp_path):
    record = open_source(folder).record()
    paths = [f"{COMPONENT_FOLDERS[branch]}/{FILE}" for branch in BRANCHES]
    assert record.files == {path: sha256_of(folder / path) for path in paths}
    assert len(set(record.files.values())) == 2
    assert open_source(write_source(tmp_path / "same")).record().files == record.files
    assert open_source(write_source(tmp_path / "other", seed=1)).record().files != record.files


def test_the_embedded_model_opens():
    source = open_source("pocket")
    assert source.location == "pocket"
    assert source.branch("conditional").read("input_proj.weight").isfinite().all()
    assert open_source(source.folder).location == "pocket"


def test_missing_folders_and_files_are_named(folder):
    assert "no folder '/nowhere'; expected 'pocket', a folder with" in refusal("/nowhere")
    assert "expected one folder or two files" in refusal(folder, unconditional=folder)
    assert "has no revision 'v2'" in refusal(folder, revision="v2")
    (folder / "unconditional_transformer" / FILE).unlink()
    assert f"no file {folder / 'unconditional_transformer' / FILE}" in refusal(folder)
    (folder / "transformer" / "config.json").unlink()
    assert "config.json: No such file or directory; expected a checkpoint in the official folder tree" in refusal(folder)


@pytest.mark.parametrize("size", [0, 7, 100, 100_000, -1])
def test_truncated_files_are_refused(folder, size):
    path = folder / "transformer" / FILE
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    assert "is not a whole safetensors file" in refusal(folder)
    assert f"({path.stat().st_size} bytes)" in refusal(folder)


def test_files_that_are_something_else_are_refused(folder):
    path = folder / "transformer" / FILE
    path.write_bytes(b"GGUF" + bytes(1000))
    assert "is not a whole safetensors file" in refusal(folder)
    path.unlink()
    path.mkdir()
    assert "is not a whole safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("transformer/config.json", "{", "not valid JSON"),
        ("transformer/config.json", "[]", "expected an object"),
        (
            "transformer/config.json",
            json.dumps(TINY.to_json() | {"num_layers": 10**9}),
            "num_layers is 1000000000, expected 1 to 1024",
        ),
        ("transformer/config.json", "{}", "transformer/config.json: in_channels is None, expected a positive integer"),
        ("traits.json", "{}", "key 'name' is missing"),
        ("traits.json", "\xff", "not valid JSON"),
    ],
)
def test_bad_json_is_refused(folder, file, text, message):
    (folder / file).write_text(text, encoding="utf-8")
    assert message in refusal(folder)


def test_large_json_is_refused(folder):
    (folder / "transformer" / "config.json").write_bytes(b"[" * 5_000_000)
    assert "has more than 4194304 bytes" in refusal(folder)


def test_binary_json_is_refused(folder):
    (folder / "traits.json").write_bytes(b"\xff\xfe")
    assert "is not a text file" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("colour", 1, "unknown key 'colour'"),
        ("min_side", "64", "min_side is '64', expected an integer"),
        ("guidance", [3.0], "guidance has 1 values, expected 2"),
        ("default_size", [64, 72], "default_size: height is 72"),
    ],
)
def test_bad_traits_are_refused(folder, key, value, message):
    path = folder / "traits.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    assert message in refusal(folder)


def test_both_transformers_have_one_config(folder):
    path = folder / "unconditional_transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"num_layers": 1}), encoding="utf-8")
    assert "the two transformers have different dimensions" in refusal(folder)
