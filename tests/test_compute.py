"""`--compute`: the same GGUF build runs in the dtype of its activations, or in int8."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.artifact import open_artifact
from ideogram_q8.devices import COMPUTES
from ideogram_q8.kernels import row_scale
from ideogram_q8.layers.packed import GgmlLinear, Int8Linear
from ideogram_q8.loading.networks import build_transformer
from tests.synthetic import TINY

CPU = torch.device("cpu")


def packed(folder, compute):
    artifact = open_artifact(folder)
    transformer = build_transformer(artifact.branch("conditional"), TINY, CPU, torch.float32, compute)
    return [module for module in transformer.modules() if isinstance(module, GgmlLinear | Int8Linear)]


def test_int8_compute_finds_the_scales_when_it_loads(built):
    layers = packed(built["q8_0"], "int8")
    assert layers
    for layer in layers:
        assert torch.equal(layer.get_buffer("scale"), row_scale(layer.data, layer.block))
    assert not any("scale" in layer.packed_names for layer in packed(built["q8_0"], COMPUTES[0]))


def test_the_products_are_close(built):
    generator = torch.Generator().manual_seed(0)
    for plain, quantized in zip(packed(built["q8_0"], "bf16"), packed(built["q8_0"], "int8"), strict=True):
        x = torch.randn(40, plain.in_features, generator=generator)
        exact = plain(x)
        assert 0 < (quantized(x) - exact).norm() < 0.02 * exact.norm()


def test_other_builds_do_not_care(built):
    layers = packed(built["int8"], "int8")
    assert layers and all(isinstance(layer, Int8Linear) for layer in layers)


def test_the_command_line_knows_two(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["generate", "--help"])
    assert refused.value.code == 0
    assert "--compute {bf16,int8}" in capsys.readouterr().out
