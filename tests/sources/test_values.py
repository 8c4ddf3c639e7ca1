"""Values that no weight can have, and files that change: found when they are read, and named."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.errors import SourceError
from ideogram_q8.sources import open_source
from tests.synthetic import Tensors, float_tensors, nf4_tensors, write_source

NAME = "layers.1.feed_forward.w2.weight"
FILE = "transformer/diffusion_pytorch_model.safetensors"


def refusal(tmp_path, convert, name: str = NAME) -> str:
    reader = open_source(write_source(tmp_path / "s", convert=convert)).branch("conditional")
    with pytest.raises(SourceError) as caught:
        reader.read(name)
    assert "\n" not in str(caught.value)
    reader.read("layers.0.feed_forward.w2.weight")  # the others can be read
    return str(caught.value)


@pytest.mark.parametrize("value", [0.0, -0.01, float("nan"), float("inf"), 1e37])
def test_impossible_fp8_scales(tmp_path, value):
    def spoil(tensors: Tensors) -> Tensors:
        tensors[f"{NAME}_scale"][3] = value
        return tensors

    message = refusal(tmp_path, spoil)
    assert f"{FILE}: {NAME}_scale is {value:g} in row 3, expected a positive number" in message
    with pytest.raises(SourceError, match=f"{NAME}_scale"):
        open_source(tmp_path / "s").branch("conditional").read_fp8(NAME)


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_fp8_codes_that_are_nan(tmp_path, code):
    def spoil(tensors: Tensors) -> Tensors:
        tensors[NAME].view(torch.uint8)[5, 7] = code
        return tensors

    assert f"{FILE}: {NAME} has at least 1 values that are NaN" in refusal(tmp_path, spoil)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [NAME, "layers.1.ffn_norm1.weight"])
def test_floats_that_are_not_finite(tmp_path, dtype, value, name):
    def spoil(tensors: Tensors) -> Tensors:
        found = float_tensors(tensors, dtype)
        found[name].view(-1)[9] = value
        return found

    assert f"{FILE}: {name} has at least 1 values that are NaN or infinite" in refusal(tmp_path, spoil, name)


def test_floats_beyond_bfloat16(tmp_path):
    def spoil(tensors: Tensors) -> Tensors:
        found = float_tensors(tensors)
        found[NAME][0, 0] = torch.finfo(torch.float32).max
        return found

    assert f"{NAME} has at least 1 values that are beyond bfloat16's range" in refusal(tmp_path, spoil)


@pytest.mark.parametrize(
    ("key", "value", "message"), [("absmax", -1.0, "absmax holds -1"), ("absmax", float("nan"), "absmax holds nan")]
)
def test_impossible_nf4_scales(tmp_path, key, value, message):
    def spoil(tensors: Tensors) -> Tensors:
        found = nf4_tensors(float_tensors(tensors))
        found[f"{NAME}.{key}"][2] = value
        return found

    assert f"{NAME}.{message}" in refusal(tmp_path, spoil)


def test_other_levels_are_not_nf4(tmp_path):
    def spoil(tensors: Tensors) -> Tensors:
        found = nf4_tensors(float_tensors(tensors))
        found[f"{NAME}.quant_map"][2] += 0.01
        return found

    assert f"{NAME}.quant_map is not NF4's table of levels" in refusal(tmp_path, spoil)


def test_a_file_that_changes_is_not_mixed(tmp_path):
    folder = write_source(tmp_path / "s")
    reader = open_source(folder).branch("conditional")
    tensors = load_file(folder / FILE)
    save_file(tensors, folder / FILE, metadata={"other": "header"})
    with pytest.raises(SourceError, match="has changed since it was opened"):
        reader.read(NAME)
    os.unlink(folder / FILE)
    with pytest.raises(SourceError, match="cannot be read: No such file or directory"):
        reader.read(NAME)
