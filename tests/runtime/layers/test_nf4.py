"""An NF4 checkpoint stays packed when it is loaded, and computes what its values in bfloat16 compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from ideogram_q8.builds.packed import Nf4Weight
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.numerics import nf4
from ideogram_q8.runtime.kernels import nf4_linear
from ideogram_q8.runtime.kernels.choosing import scratch, workspace
from ideogram_q8.runtime.kernels.linear import weight_only as kernel
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.layers.packed import Nf4Linear, from_packed
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.sources import open_source
from tests import live_bytes
from tests.synthetic import TINY, float_tensors, nf4_tensors, write_source

CPU = torch.device("cpu")


def weight(rows: int, inputs: int = 128, seed: int = 0) -> Nf4Weight:
    codes, absmax = nf4.quantize(torch.randn(rows * inputs, generator=torch.Generator().manual_seed(seed)))
    return Nf4Weight(codes.view(rows, -1), absmax.view(rows, -1))


def values(packed: Nf4Weight) -> torch.Tensor:
    return nf4.dequantize(packed.data, packed.absmax.flatten(), 64).float().view(packed.shape)


@pytest.mark.parametrize("piece", [1, 300, kernel.NF4_PIECE])
def test_the_product_is_that_of_the_values(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NF4_PIECE", piece)
    packed, bias = weight(10), torch.arange(10.0)
    x = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(1))
    assert torch.equal(from_packed(packed, bias)(x), functional.linear(x.view(6, 128), values(packed), bias).view(2, 3, 10))
    assert torch.equal(values(packed.row_slice(2, 5)), values(packed)[2:5])


@pytest.mark.parametrize("rows", [512, 2100])
def test_it_takes_what_was_predicted(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NF4_PIECE", 1 << 20)
    monkeypatch.setattr(scratch, "NF4_PIECE", 1 << 20)
    packed, x = weight(rows, 1024), torch.randn(64, 1024)
    workspace.release()
    nf4_linear(x, packed.data, packed.absmax)
    measured = live_bytes.peak(lambda: nf4_linear(x, packed.data, packed.absmax)) - 64 * rows * 4 + workspace.held_bytes()
    predicted = scratch.scratch_bytes("nf4", 64, rows, 1024, torch.float32, "cpu")
    workspace.release()
    assert abs(predicted / measured - 1) < 0.05


def test_layers_of_one_input_are_one() -> None:
    layers = [from_packed(weight(rows, seed=rows)) for rows in (4, 6)]
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    apart = torch.cat([layer(x) for layer in layers], -1)
    fusing.adjoin(layers)
    whole = fusing.joined(layers)
    assert isinstance(whole, Nf4Linear) and torch.equal(whole(x), apart)
    assert usage.module_bytes(*layers) == usage.module_bytes(whole) == 10 * (64 + 2 * 4)


def test_it_compiles_without_a_break() -> None:
    packed = weight(10)
    arguments = torch.randn(3, 128), packed.data, packed.absmax, None
    torch.library.opcheck(torch.ops.ideogram_q8.nf4_linear.default, arguments)
    compiled = torch.compile(lambda x: nf4_linear(x, packed.data, packed.absmax) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(arguments[0]), nf4_linear(*arguments) * 2)


def test_a_checkpoint_stays_packed(tmp_path: Path) -> None:
    source = open_source(write_source(tmp_path, convert=lambda tensors: nf4_tensors(float_tensors(tensors))))
    reader = source.branch("conditional")
    transformer = build_transformer(SourceWeights(reader), TINY, CPU, torch.float32)
    w2 = transformer.layers[0].feed_forward.w2
    assert isinstance(w2, Nf4Linear) and w2.absmax.dtype == torch.float32
    packed = Nf4Weight(w2.data, w2.absmax)
    assert torch.equal(values(packed), reader.read("layers.0.feed_forward.w2.weight").float())
    assert type(transformer.llm_cond_proj) is torch.nn.Linear  # its blocks go across rows
    found = inventory.schemes(source)["conditional"]
    assert {name for name, scheme in found.items() if scheme != "nf4"} == {"input_proj", "llm_cond_proj"}
    linear = next(each for each in budget.linears(TINY) if each.name == "layers.0.feed_forward.w2")
    assert budget.linear_bytes(linear, "nf4", torch.float32) == usage.module_bytes(w2)
