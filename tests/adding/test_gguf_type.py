"""A GGUF type is a row of `model.schemes.BLOCKS` with two functions: it is quantized, written, read and painted with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.formats import gguf_header
from ideogram_q8.model.schemes import BLOCKS
from ideogram_q8.numerics import ggml
from ideogram_q8.numerics.ggml import legacy
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.rules import apply_rules, parse
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.kernels.linear import ggml as linear
from ideogram_q8.runtime.kernels.linear import triton_ggml
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_source

PLAIN = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
DUMMY = replace(BLOCKS["q8_0"], name="dummy_8", gguf_type=99, encoder="legacy:encode_dummy", decoder="legacy:decode_dummy")


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "dummy_8", DUMMY)  # type: ignore[arg-type]  # a dict, which the annotation keeps others from changing
    monkeypatch.setattr(legacy, "encode_dummy", legacy.encode_q8_0, raising=False)
    monkeypatch.setattr(legacy, "decode_dummy", legacy.decode_q8_0, raising=False)


def test_its_functions_are_found() -> None:
    values = torch.linspace(-1, 1, 128).reshape(2, 64)
    data = ggml.encode(values, DUMMY)
    assert torch.equal(data, ggml.encode(values, BLOCKS["q8_0"])) and data.shape == (2, 68)
    assert torch.equal(ggml.decode(data, DUMMY), ggml.decode(data, BLOCKS["q8_0"]))


def test_it_is_quantized_written_read_and_painted(tmp_path: Path) -> None:
    source = open_source("pocket")
    recipe = apply_rules(choose("q8_0", source.config), [parse("layers.*=DUMMY-8")], source.config)
    assert Recipe.from_json(recipe.to_json()) == recipe and recipe.scheme == "mixed"
    for name, each in (("dummy", recipe), ("plain", choose("q8_0", source.config))):
        quantize(source, each, tmp_path / name)
    file = next(path for path in sorted((tmp_path / "dummy").glob("*.gguf")) if "unconditional" not in path.name)
    kinds = {tensor.dtype for tensor in gguf_header.read_header(file).tensors}
    assert "DUMMY_8" in kinds and "Q8_0" not in kinds
    assert open_artifact(tmp_path / "dummy").recipe == recipe
    request = Request(PLAIN, 1, "turbo-12", 64, 64)
    ours, plain = (np.asarray(generate(load(tmp_path / name), request).image) for name in ("dummy", "plain"))
    assert np.array_equal(ours, plain)


def test_without_a_program_of_triton_plain_torch_expands_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear.importlib.util, "find_spec", lambda name: name)
    linear._triton_refuses.cache_clear()
    assert "dummy_8" not in triton_ggml.EXPANSIONS
    assert linear._triton_refuses("dummy_8", torch.device("cuda", 0)) == "it has no program for these blocks"
    linear._triton_refuses.cache_clear()
