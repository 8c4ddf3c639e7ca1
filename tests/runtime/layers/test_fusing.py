"""Layers that share memory compute as one what they compute apart, and take no more memory than before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight
from ideogram_q8.numerics import fp8, ggml, int8
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.layers.packed import for_int8_compute, from_packed
from ideogram_q8.runtime.memory import usage

K = 256


def random(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, K, generator=torch.Generator().manual_seed(seed))


def plain(rows: int, seed: int) -> nn.Module:
    layer = nn.Linear(K, rows, bias=False)
    layer.weight = nn.Parameter(random(rows, seed), requires_grad=False)
    return layer


def as_int8(rows: int, seed: int, rotation: int = 0, weight_only: bool = False) -> nn.Module:
    return from_packed(Int8Weight(*int8.quantize_per_channel(random(rows, seed)), rotation, weight_only))


def as_fp8(rows: int, seed: int) -> nn.Module:
    return from_packed(Fp8Weight(*fp8.quantize_per_row(random(rows, seed))))


def as_ggml(rows: int, seed: int, block: str = "q8_0", in_int8: bool = False) -> nn.Module:
    packed = GgmlWeight(ggml.encode(random(rows, seed), ggml.BLOCKS[block]), block, (rows, K))
    return from_packed(for_int8_compute(packed, torch.device("cpu")) if in_int8 else packed)


KINDS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": plain,
    "int8": as_int8,
    "rotated": lambda rows, seed: as_int8(rows, seed, rotation=256),
    "weight-only": lambda rows, seed: as_int8(rows, seed, weight_only=True),
    "fp8": as_fp8,
    "q8_0": as_ggml,
    "q4_k": lambda rows, seed: as_ggml(rows, seed, "q4_k"),
    "q4_k, computed in int8": lambda rows, seed: as_ggml(rows, seed, "q4_k", in_int8=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_product_is_the_products(kind: str) -> None:
    layers = [KINDS[kind](rows, seed) for seed, rows in enumerate((8, 24, 16))]
    x = random(40, 99)
    apart = [layer(x) for layer in layers]
    before = usage.module_bytes(*layers)
    assert fusing.joined(layers) is None
    fusing.adjoin(layers)
    whole = fusing.joined(layers)
    assert whole is not None
    assert usage.module_bytes(*layers) == usage.module_bytes(*layers, whole) == before
    assert torch.allclose(whole(x), torch.cat(apart, -1), rtol=1e-5, atol=1e-4)
    assert all(torch.equal(layer(x), y) for layer, y in zip(layers, apart, strict=True))


@pytest.mark.parametrize(
    "layers",
    [
        [as_int8(8, 0), as_int8(8, 1, rotation=256)],
        [as_int8(8, 0), as_int8(8, 1, weight_only=True)],
        [as_int8(8, 0), plain(8, 1)],
        [as_ggml(8, 0), as_ggml(8, 1, "q4_k")],
        [as_ggml(8, 0), as_ggml(8, 1, in_int8=True)],
        [nn.Linear(K, 8), nn.Linear(K, 8)],
        [nn.Dropout(), nn.Dropout()],
    ],
    ids=["rotation", "weight-only", "scheme", "block", "compute", "bias", "no Linear"],
)
def test_layers_that_differ_stay_apart(layers: list[nn.Module]) -> None:
    before = [[tensor.data_ptr() for tensor in (*layer.parameters(), *layer.buffers())] for layer in layers]
    fusing.adjoin(layers)
    assert fusing.joined(layers) is None
    assert before == [[tensor.data_ptr() for tensor in (*layer.parameters(), *layer.buffers())] for layer in layers]


def test_adjoining_twice_copies_once() -> None:
    layers = [as_fp8(8, 0), as_fp8(8, 1)]
    fusing.adjoin(layers)
    places = [layer.get_buffer("weight").data_ptr() for layer in layers]
    fusing.adjoin(layers)
    assert [layer.get_buffer("weight").data_ptr() for layer in layers] == places
