"""Headers of int8 single files under ComfyUI's and stable-diffusion.cpp's rules, and their size at full scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ideogram_q8.builds import layout
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.formats import safetensors_file
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, Linear, TransformerConfig, linears
from ideogram_q8.recipes import Part, Recipe, choose
from ideogram_q8.sources import open_source
from tests.interop.recipes import MIXED, changed
from tests.interop.rules import SIZES, Header, problems
from tests.synthetic import TINY, write_source

ONE_LAYER = replace(IDEOGRAM4, num_layers=1)
ROTATED = changed(MIXED, {}, {"layers.0.feed_forward.w2": 256, "layers.0.attention.o": 64})


def recipe_of(config: TransformerConfig, rotation: int, is_int8: Callable[[Linear], bool]) -> Recipe:
    layers = tuple(
        replace(layer, scheme="w8a8", rotation=rotation) if is_int8(linear) else replace(layer, scheme="bf16")
        for layer, linear in zip(choose("int8", config).parts["conditional"].layers, linears(config), strict=True)
    )
    return replace(choose("int8", config), policy="chosen", parts=dict.fromkeys(BRANCHES, Part(layers, ())))


def write_hollow(path: Path, config: TransformerConfig, recipe: Recipe) -> Header:
    """A file as large as the real one, with its header and markers; the weights are holes that take no disk."""
    stored = layout.stored_tensors(config, recipe, "conditional")
    placement = safetensors_file.place([r for rows in stored.values() for r in rows], {"model_type": "ideogram4_cond"})
    plans = {layer.linear: layer for layer in recipe.parts["conditional"].layers}
    with path.open("wb") as file:
        file.write(placement.header)
        file.truncate(placement.size)
        for name, offset in placement.offsets.items():
            if name.endswith(".comfy_quant"):
                file.seek(offset)
                file.write(layout.comfy_quant(plans[name.removesuffix(".comfy_quant")]))
    return Header.read(path)


@pytest.mark.parametrize("recipe", [choose("int8", TINY), MIXED, ROTATED], ids=["naive", "mixed", "rotated"])
def test_files_that_are_written_obey(recipe, tmp_path):
    quantize(open_source(write_source(tmp_path / "source")), recipe, tmp_path / "out")
    for branch in BRANCHES:
        assert problems(Header.read(tmp_path / "out" / layout.file_name("int8", branch)), TINY) == []


@pytest.mark.parametrize("rotation", [0, 256])
def test_one_layer_of_full_width_obeys(tmp_path, rotation):
    header = write_hollow(
        tmp_path / "one.safetensors", ONE_LAYER, recipe_of(ONE_LAYER, rotation, lambda linear: linear.in_block)
    )
    assert problems(header, ONE_LAYER) == []
    assert header.tensors["layers.0.feed_forward.w2.weight"][:2] == ("I8", (4608, 12288))


@pytest.mark.parametrize(
    ("is_int8", "count", "expected"),
    [(lambda linear: linear.sees_tokens, 170, 9_901_717_760), (lambda linear: linear.in_block, 204, 9_583_360_256)],
    ids=["attention and feed-forward", "all in blocks"],
)
def test_sizes_at_full_scale_are_the_published_ones(tmp_path, is_int8, count, expected):
    """Tensor data of one branch, markers apart; 204 is what Comfy-Org's int8_convrot files have."""
    header = write_hollow(tmp_path / "full.safetensors", IDEOGRAM4, recipe_of(IDEOGRAM4, 256, is_int8))
    assert problems(header, IDEOGRAM4) == []
    assert len(header.markers) == count
    assert header.data_bytes - sum(len(marker) for marker in header.markers.values()) == expected


LINEAR = "layers.0.attention.o"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LINEAR}.weight_scale": ("F32", (), 0, 4)}, f"{LINEAR}: scale F32 ()"),
        ({f"{LINEAR}.weight_scale": ("BF16", (256, 1), 0, 512)}, f"{LINEAR}: scale BF16 (256, 1)"),
        ({f"{LINEAR}.weight": ("I8", (256, 255), 0, 65280)}, f"{LINEAR}.weight: shape (256, 255), expected (256, 256)"),
        ({f"{LINEAR}.weight": ("BF16", (256, 256), 0, 131072)}, "are not of the same Linears"),
        ({"input_proj.weight": ("BF16", (256, 15), 0, 7680)}, "input_proj.weight does not give the channels"),
        ({"input_proj.bias": ("BOOL", (256,), 0, 256)}, "input_proj.bias: BOOL"),
        ({"layers.2.attention.to_q.weight": ("BF16", (1, 1), 0, 2)}, "layers are not counted right"),
    ],
)
def test_the_rules_find_what_breaks_them(tmp_path, monkeypatch, change, message):
    monkeypatch.setitem(SIZES, "BOOL", 1)
    header = write_hollow(tmp_path / "tiny.safetensors", TINY, choose("int8", TINY))
    assert problems(header, TINY) == []
    assert any(message in problem for problem in problems(replace(header, tensors={**header.tensors, **change}), TINY))


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (b'{"format":"float8_e4m3fn"}', "the marker is {'format': 'float8_e4m3fn'}"),
        (b'{"format":"int8_tensorwise","convrot":true,"convrot_groupsize":128}', "groups of 128 in 256 inputs"),
        (b'{"format":"int8_tensorwise","convrot":true,"convrot_groupsize":1024}', "groups of 1024 in 256 inputs"),
        (b'{"format":"int8_tensorwise","smooth":true}', "'smooth': True"),
    ],
)
def test_the_rules_read_the_markers(tmp_path, marker, message):
    header = write_hollow(tmp_path / "tiny.safetensors", TINY, choose("int8", TINY))
    spoiled = replace(header, markers={**header.markers, LINEAR: marker})
    assert any(message in problem for problem in problems(spoiled, TINY))
