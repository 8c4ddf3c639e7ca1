"""All that `--device` moves, on a device that refuses to mix with the CPU: no tensor is left behind, the numbers are the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ideogram_q8.builds.layout import Packaging
from ideogram_q8.builds.quantization.part import PartJob
from ideogram_q8.calibration.recorder import Recorder
from ideogram_q8.calibration.run import offload_blocks
from ideogram_q8.model.architecture import PartName
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.policies.measurement import recipe_errors
from ideogram_q8.policies.paper import paper
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.runtime.generation.sampling import steps
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.loading.model import Model
from ideogram_q8.runtime.memory import usage
from ideogram_q8.sources import Source
from tests.calibration.test_run import CAPTIONS, JOB, shortened
from tests.policies.example import statistics_of
from tests.second_device import second_device

pytestmark = pytest.mark.slow

SPIKY = {"layers.0.feed_forward.w2": 300.0}


@pytest.fixture
def far() -> Iterator[torch.device]:
    with second_device() as device, torch.no_grad():
        yield device


def test_the_device_is_as_strict_as_a_gpu(far):
    near = torch.randn(3, 8)
    there = near.to(far)
    assert there.device.type == "far" and there.cpu().device.type == "cpu" and torch.equal(there.cpu(), near)
    assert (there * torch.tensor(2.0)).device == far  # a single number may come from anywhere
    for mistake in (lambda: there + near, lambda: torch.cat([near, there]), lambda: there @ near.T, lambda: near.add_(there)):
        with pytest.raises(RuntimeError, match="tensors are on far and on cpu"):
            mistake()


def recipes(source: Source) -> dict[str, Recipe]:
    return {
        "smoothed": paper(statistics_of(source, SPIKY), source, protect=2),
        "rotated": convrot(source.config),
        "q4_k_m": choose("q4_k_m", source.config),
    }


def test_quantizing_gives_the_same_bytes(source, far):
    for name, recipe in recipes(source).items():
        here, there = (PartJob(source, recipe, "conditional", device, None, Packaging()) for device in ("cpu", "far"))
        for file in here.files:
            for piece in here.pieces(file, {}):
                if not piece.name.startswith("layers.0."):
                    continue
                for expected, found in zip(here.compute(piece), there.compute(piece), strict=True):
                    assert found[0] == expected[0] and found[1].device.type == "cpu", (name, piece)
                    assert torch.equal(found[1].view(torch.uint8), expected[1].view(torch.uint8)), (name, piece)


@pytest.fixture(scope="module", autouse=True)
def _without_addresses() -> Iterator[None]:
    """These tensors have none: nothing is counted or joined by them, here and on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusing, "_neighbours", lambda _: False)
        patch.setattr(usage, "module_bytes", lambda *_, **__: 0)
        yield


def watched(model: Model) -> Statistics:
    """What goes into all Linears in the first step of a picture."""
    watched: dict[PartName, nn.Module] = dict(model.branches)
    with Recorder(watched, model.config, JOB.calibration(CAPTIONS[:1]), "label") as recorder:
        for step in itertools.islice(steps(model, JOB.request(CAPTIONS[0])), 1):
            recorder.step = step.index + 1
    return recorder.finish()


@pytest.fixture(scope="module")
def expected() -> Statistics:
    with torch.no_grad():
        return watched(shortened())


@pytest.fixture
def model() -> Model:
    """Loaded before the second device is there, for that slows everything."""
    return shortened()


@pytest.mark.parametrize("offload", [False, True])
def test_calibrating_gives_the_same_statistics(expected, model, far, offload):
    """To rounding: torch takes another path through attention on a device that it does not know."""
    if offload:
        offload_blocks(model, far)
    else:
        move(model, far)
    found = watched(model)
    assert found.entries.keys() == expected.entries.keys()
    for key, entry in found.entries.items():
        assert torch.equal(entry.sample_key, expected.entries[key].sample_key)
        for name in ("amax", "square_sum", "sample"):
            torch.testing.assert_close(getattr(entry, name), getattr(expected.entries[key], name), rtol=1e-3, atol=1e-4)


def move(model: Model, device: torch.device) -> None:
    for module in (*model.branches.values(), model.text_encoder):
        module.to(device)
    model.device = device


def test_policies_measure_the_same(source, far):
    statistics = statistics_of(source, SPIKY)
    for recipe in (paper(statistics, source, protect=2), convrot(source.config)):
        assert recipe_errors(recipe, statistics, source, device="far") == recipe_errors(recipe, statistics, source)
