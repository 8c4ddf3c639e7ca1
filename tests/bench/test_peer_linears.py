"""Other people's libraries are driven as their users drive them, and leave nothing behind for those that come after."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch._inductor.config
from torch import nn

from ideogram_q8.bench.linear import peer_linears

SETTINGS = ("coordinate_descent_tuning", "coordinate_descent_check_all_directions", "force_fuse_int_mm_with_mul")


@pytest.fixture
def torchao(monkeypatch):
    """What is seen of torchao: unless it is told not to, it changes inductor's settings for good."""

    def quantize(module, config, filter_fn):
        if config.set_inductor_config:
            for name in SETTINGS:
                monkeypatch.setattr(torch._inductor.config, name, True)

    found = ModuleType("torchao.quantization")
    found.Int8DynamicActivationInt8WeightConfig = lambda version, set_inductor_config=True: SimpleNamespace(
        set_inductor_config=set_inductor_config
    )
    found.quantize_ = quantize
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", found)
    monkeypatch.setattr(peer_linears, "require", lambda *_: None)


def inductor():
    return [getattr(torch._inductor.config, name) for name in SETTINGS]


def test_torchaos_settings_are_its_own(torchao):
    before = inductor()
    peer_linears.to_torchao(nn.Module(), ())
    assert inductor() == before == [False] * len(SETTINGS)
    own, others = (peer_linears.compiling(convert)["options"] for convert in (peer_linears.to_torchao, None))
    assert all(own[name] for name in SETTINGS) and others == {}


@pytest.mark.parametrize("there", [True, False])
def test_a_layer_is_compiled_where_a_compiler_is(there, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda layer, **options: calls.append(options) or layer)
    monkeypatch.setattr(peer_linears.shutil, "which", lambda name: f"/bin/{name}" if there else None)
    weight, x = torch.randn(3, 4), torch.randn(2, 4)
    function, note = peer_linears.converted(weight, lambda *_: None)
    assert torch.equal(function(x), nn.functional.linear(x, weight))
    assert note == ("compiled" if there else "not compiled: no C++ compiler (g++) is here")
    assert len(calls) == there and peer_linears.refuses_to_compile(torch.device("cuda")) is None
