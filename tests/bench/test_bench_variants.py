"""Variants of `bench denoise` one by one: on another device, streamed, compiled, within a cap, as ComfyUI runs them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.cuda._utils import _get_device_index

from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.picture import comfy, denoise, own, peers
from ideogram_q8.bench.picture.scene import StepScene
from ideogram_q8.bench.results import DenoiseSettings
from ideogram_q8.errors import ResourceError
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.memory import budget
from tests.second_device import second_device
from tests.synthetic import TINY

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SETTINGS = DenoiseSettings(1, 128, 64, 8, 12, "float32", 1, 1, 100.0, None, 0, tuple(denoise.VARIANTS))


def scene(device: torch.device, available: int = 1 << 40, dtype: torch.dtype = torch.float32, **changes: object) -> StepScene:
    return StepScene(replace(SETTINGS, **changes), replace(TINY, num_layers=2), Pool(0, device, dtype), available)


@pytest.fixture
def without_addresses(monkeypatch, quick):
    """Tensors of the second device have none: nothing is joined by them, here and on the CPU."""
    monkeypatch.setattr(fusing, "_neighbours", lambda _: False)


@torch.no_grad()
@pytest.mark.parametrize(
    "variant", [v for v in denoise.VARIANTS.values() if v.name not in ("torchao", "sdnq", "int8-overlap")], ids=lambda v: v.name
)
def test_no_tensor_is_on_another_device(variant, without_addresses):
    """On a second device that mixes with no other, every variant gives what it gives on the CPU."""
    if variant.name == "diffusers-compiled":
        variant = replace(variant, build=denoise.VARIANTS["diffusers"].build)
    expected = variant.build(scene(CPU)).step(1)
    workspace.release()
    with second_device() as far:
        found = variant.build(scene(far)).step(1).cpu()
    # a sum in another order may turn a value to the next code
    assert (found - expected).norm() < (0.01 if variant.arithmetic == "int8" else 1e-5) * expected.norm()


@torch.no_grad()
@pytest.mark.parametrize("streamed", [("unconditional",), ("unconditional", "conditional")], ids="+".join)
def test_streamed_branches_give_the_same(streamed, monkeypatch, quick):
    expected = own.build(scene(CPU), "int8").step(1)
    place = own.placement

    def some_streamed(where, described):
        found = place(where, described)
        return replace(found, plan=replace(found.plan, streamed=streamed))

    monkeypatch.setattr(own, "placement", some_streamed)
    built = own.build(scene(CPU), "int8")
    assert torch.equal(built.step(1), expected)
    assert len(built.parts()) == 5
    assert built.streamed == streamed and built.note == f"{' and '.join(streamed)} streamed"


@torch.no_grad()
def test_branches_on_two_streams_are_the_samplers_own(monkeypatch, quick):
    """A CPU has no streams: seen here is that one is used, and what is refused."""
    expected, asked = own.build(scene(CPU), "int8").step(1), []
    side = SimpleNamespace(start=lambda work: asked.append("start") or work(), join=lambda found: asked.append("join"))
    monkeypatch.setattr(own, "side_of", lambda _: side)
    built = own.build(scene(CPU), "int8", overlap=True)
    assert torch.equal(built.step(1), expected) and asked == ["start", "join"]
    assert built.predicted_bytes > own.build(scene(CPU), "int8").predicted_bytes
    place = own.placement

    def streamed(where, described):
        found = place(where, described)
        return replace(found, plan=replace(found.plan, streamed=("unconditional",)))

    monkeypatch.setattr(own, "placement", streamed)
    with pytest.raises(ResourceError, match="two streams need both branches on the device"):
        own.build(scene(CPU), "int8", overlap=True)


def test_less_memory_streams_more_and_then_refuses():
    """By numbers alone: no tensor is made on the card."""
    where = scene(torch.device("cuda"), dtype=torch.bfloat16)
    where = replace(where, config=replace(TINY, num_layers=8))
    described = own.networks(where, own.forms(where, "bf16"))
    found = [own.placement(where, described)]
    with pytest.raises(ResourceError, match=r"needs 0\.0 GB, 0\.0 GB are free"):
        while True:
            found.append(own.placement(replace(where, available=found[-1].peak - 1), described))
    assert [each.plan.streamed for each in found] == [(), ("unconditional",), ("unconditional", "conditional")]


@pytest.fixture
def card(monkeypatch):
    """A card of 80 GB, the second of two, which the process uses: bytes may be set to change its size. `caps` are (share, card)."""
    found = SimpleNamespace(total_memory=80 * 10**9, caps=[])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    # as torch: a device without an index is refused
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: found.caps.append((share, _get_device_index(device))),
    )
    return found


@pytest.mark.parametrize(("name", "index"), [("cuda", 1), ("cuda:0", 0)])
def test_a_cap_is_set_and_lifted(name, index, card):
    with pytest.raises(ValueError, match="stop"), denoise.capped(torch.device(name), 24 * 10**9):
        raise ValueError("stop")
    assert card.caps == [(pytest.approx(0.3), index), (1.0, index)]


def test_a_card_of_more_than_24_gb_is_held_to_that(card):
    assert denoise.default_cap(torch.device("cuda")) == 24 * 10**9
    card.total_memory = 24 * 10**9
    assert denoise.default_cap(torch.device("cuda")) is None
    assert denoise.default_cap(CPU) is None


@torch.no_grad()
def test_compiled_peers_compile_their_blocks(monkeypatch, quick):
    """Which modules are compiled, and how; without a compiler the row says so."""
    from diffusers import Ideogram4Transformer2DModel

    calls = []
    monkeypatch.setattr(Ideogram4Transformer2DModel, "compile_repeated_blocks", lambda self, **options: calls.append(options))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    built = peers._build(scene(CPU), padded=False, compiled=True)
    assert calls == [{"options": {}, "dynamic": False}] * 2
    assert built.note == "compiled (default)" and built.compiles
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ResourceError, match=r"not compiled: no C\+\+ compiler \(g\+\+\) is here; the row above is the same"):
        peers._build(scene(CPU), padded=False, compiled=True)
    built = peers._build(scene(CPU), padded=False, convert=lambda *_: None, compiled=True)
    assert built.note == "not compiled: no C++ compiler (g++) is here" and not built.compiles and len(calls) == 2


def test_the_pipelines_padding_changes_nothing_but_time(quick):
    with torch.no_grad():
        plain, padded = (peers._build(scene(CPU), padded=padded).step(1) for padded in (False, True))
    assert torch.allclose(plain, padded, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_comfy_computes_every_linear_of_a_block_and_no_mask(quick, monkeypatch):
    import comfy_kitchen

    widths = []
    linear = comfy_kitchen.int8_linear

    def counted(x, weight, *rest, **options):
        widths.append((tuple(weight.shape), options.get("convrot", False)))
        return linear(x, weight, *rest, **options)

    monkeypatch.setattr(comfy_kitchen, "int8_linear", counted)
    comfy.build(scene(CPU)).step(0)
    block = [(768, 256), (256, 256), (256, 256), (256, 256), (256, 256)]  # qkv, o, w1, w3, w2
    assert sorted(widths) == sorted((shape, True) for shape in block * 4)


def test_what_the_host_has_no_room_for_is_not_streamed(monkeypatch):
    """Pinned memory that is not there ends the process, or the computer's other programs."""
    plan = budget.PLANS[-1]
    needed = own._footprint(scene(CPU), own.networks(scene(CPU), own.forms(scene(CPU), "int8")), plan).host
    monkeypatch.setattr(own.usage, "host_bytes", lambda: (1 << 40, needed, 0))
    with pytest.raises(ResourceError, match=r"needs .* GB of host memory, .* GB are free"):
        own.build(scene(CPU), "int8", plan=plan)
    monkeypatch.setattr(own.usage, "host_bytes", lambda: (0, 0, 0))  # where there is no /proc, nobody knows
    assert own.build(scene(CPU), "int8", plan=plan).streamed == plan.streamed
