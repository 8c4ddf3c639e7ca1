"""comfy-kitchen, the library under ComfyUI, computes with the tensors of the single file and agrees with `Int8Linear`.

Its plain-torch back end is its own reference. In float32 both quantize activations with amax / 127 by the same operations, so codes are
equal; the results differ by the order of two float32 products. Where inputs are rotated, we round them to
a grid first (`numerics.rotation`) and it does not: an input may then get the next code, which moves an output by a part of the
quantization error.
"""

from __future__ import annotations

import json
from pathlib import Path

import comfy_kitchen as kitchen
import pytest
import torch
from safetensors.torch import load_file

from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import linears
from ideogram_q8.recipes import choose
from ideogram_q8.recipes.folding import Folding
from ideogram_q8.runtime.layers.packed import Int8Linear
from ideogram_q8.sources import open_source
from tests.interop.recipes import changed
from tests.synthetic import TINY, write_source

ROTATIONS = {"layers.0.attention.qkv": 256, "layers.1.feed_forward.w2": 256, "layers.0.adaln_modulation": 64}
RECIPE = changed(choose("int8", TINY), {"layers.0.adaln_modulation": "w8a8"}, ROTATIONS)
FLOAT32_STEP = 2.0**-23


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kitchen")
    quantize(open_source(write_source(folder / "source")), RECIPE, folder / "int8")
    return folder


def linears_of(place: Path):
    """(name, the file's tensors, the marker, our weight, the source's weight) of each int8 Linear."""
    artifact = open_artifact(place / "int8")
    view, reader = artifact.branch("conditional"), open_source(place / "source").branch("conditional")
    folding = Folding(RECIPE.parts["conditional"], TINY)
    stored = load_file(view.path)
    for linear in linears(TINY):
        packed = view.packed(linear.name)
        if isinstance(packed, Int8Weight):
            marker = json.loads(bytes(stored[f"{linear.name}.comfy_quant"].numpy()))
            source = folding.apply(f"{linear.name}.weight", reader.read(f"{linear.name}.weight")).float()
            bias = view.read(f"{linear.name}.bias").float() if linear.bias else None
            yield linear.name, stored, marker, Int8Linear(packed, bias), source


def test_products_agree(place):
    generator = torch.Generator().manual_seed(0)
    rotated = 0
    for name, stored, marker, layer, source in linears_of(place):
        x = torch.randn(7, layer.in_features, generator=generator)
        options = {key: marker[key] for key in ("convrot", "convrot_groupsize") if key in marker}
        with kitchen.use_backend("eager"):
            weight, scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale"]
            theirs = kitchen.int8_linear(x, weight, scale, layer.bias, torch.float32, **options)
        ours = layer(x)
        exact = torch.nn.functional.linear(x, source, layer.bias)
        error = float((ours - exact).norm() / exact.norm())
        difference = (theirs - ours).abs()
        if layer.rotation:
            rotated += 1
            assert float(difference.norm() / exact.norm()) < error / 2, name
        else:
            bias = torch.zeros(()) if layer.bias is None else layer.bias.abs()
            assert (difference <= 2 * FLOAT32_STEP * (ours.abs() + 2 * bias)).all(), name
        assert 0 < error < 0.02, name
    assert rotated == len(ROTATIONS)


def test_weights_agree(place):
    """Its dequantization, which undoes the rotation, gives the source's weight back to within half a code, spread by the rotation."""
    for name, stored, marker, layer, source in linears_of(place):
        weight, scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale"]
        with kitchen.use_backend("eager"):
            if layer.rotation:
                from comfy_kitchen.backends.eager.quantization import dequantize_int8_convrot_weight

                theirs = dequantize_int8_convrot_weight(weight, scale, marker["convrot_groupsize"])
                groups = (theirs - source).reshape(len(source), -1, layer.rotation)
                assert (groups.norm(dim=2) <= scale * 0.5 * layer.rotation**0.5 * 1.001).all(), name
            else:
                theirs = kitchen.dequantize_int8_simple(weight, scale)
                assert ((theirs - source).abs() <= scale * 0.5 * 1.001).all(), name


def test_it_would_quantize_to_the_same_tensors(place):
    """Codes and scales of its own quantizer. It rotates without our grid: then a code may be the next one, seldom."""
    from comfy_kitchen.backends.eager.quantization import quantize_int8_convrot_weight, quantize_int8_rowwise

    for name, stored, _, layer, source in linears_of(place):
        codes, scale = quantize_int8_convrot_weight(source, layer.rotation) if layer.rotation else quantize_int8_rowwise(source)
        ours, our_scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale"]
        if not layer.rotation:
            assert torch.equal(codes, ours) and torch.equal(scale, our_scale), name
            continue
        torch.testing.assert_close(scale, our_scale, rtol=2.0**-16, atol=0)
        assert (codes.int() - ours.int()).abs().max() <= 1 and (codes != ours).float().mean() < 1e-3, name
