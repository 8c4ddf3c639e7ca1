"""The recorder against statistics that numpy takes from the same inputs all at once."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Ideogram4Transformer2DModel

from ideogram_q8.calibration import recorder
from ideogram_q8.calibration.recorder import Recorder, row_keys
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import SourceRecord
from ideogram_q8.model.architecture import BRANCHES, Branch, diffusers_names, linears
from ideogram_q8.recipes.statistics import Calibration, Statistics, shared_input
from tests.synthetic import TINY

STEPS = 3
PLAN = Calibration(1, SourceRecord("tiny", None, {}), ("00",), "turbo-12", 64, 64, 0, STEPS, 7)


@pytest.fixture(scope="module")
def branches() -> dict[Branch, Ideogram4Transformer2DModel]:
    torch.manual_seed(0)
    return {branch: Ideogram4Transformer2DModel.from_config(TINY.to_json()).eval() for branch in BRANCHES}


@torch.no_grad()
def forward(transformer: Ideogram4Transformer2DModel, step: int, text: int) -> None:
    """All 211 Linears' likes, in an order and with inputs of our own."""
    generator = torch.Generator().manual_seed(100 * step + text)
    hidden = torch.randn(1, text + 9, 256, generator=generator)
    hidden[0, -1] = 0  # a row of zeros
    if text and step == 0:
        transformer.llm_cond_proj(torch.randn(text, 104, generator=generator))
    transformer.input_proj(torch.randn(1, 9, 16, generator=generator))
    conditioning = transformer.adaln_proj(transformer.t_embedding(torch.tensor([step / STEPS])).unsqueeze(1))
    rotary = (torch.ones(1, text + 9, 32), torch.zeros(1, text + 9, 32))
    for block in transformer.layers:
        hidden = block(hidden, None, rotary, conditioning)
    transformer.final_layer(hidden[:, text:], conditioning=conditioning)


def record(branches: dict[Branch, Ideogram4Transformer2DModel], label: str = "label") -> Statistics:
    with Recorder(branches, TINY, PLAN, label) as watching:
        for step in range(STEPS):
            watching.step = step
            for branch, transformer in branches.items():
                forward(transformer, step, 4 if branch == "conditional" else 0)
    return watching.finish()


@pytest.fixture(scope="module")
def found(branches: dict[Branch, Ideogram4Transformer2DModel]) -> Statistics:
    return record(branches)


@pytest.fixture(scope="module")
def inputs(branches: dict[Branch, Ideogram4Transformer2DModel]) -> dict[tuple[str, str], list[list[np.ndarray]]]:
    """All inputs by branch and official name, a list for each step; gathered by hooks of the test's own."""
    seen: dict[tuple[str, str], list[list[np.ndarray]]] = {}
    step = 0

    def gather(key: tuple[str, str]) -> Any:
        def hook(_module: object, arguments: tuple[torch.Tensor], _output: object) -> None:
            seen.setdefault(key, [[] for _ in range(STEPS)])[step].append(
                arguments[0].numpy().reshape(-1, arguments[0].shape[-1])
            )

        return hook

    hooks = []
    for branch, transformer in branches.items():
        modules = dict(transformer.named_modules())
        for linear in linears(TINY):
            hook = gather((branch, linear.name))
            names = [name.removesuffix(".weight") for name in diffusers_names(f"{linear.name}.weight")]
            hooks += [modules[name].register_forward_hook(hook) for name in names]
    for step in range(STEPS):
        for branch, transformer in branches.items():
            forward(transformer, step, 4 if branch == "conditional" else 0)
    for handle in hooks:
        handle.remove()
    return seen


def test_every_linear_that_runs_is_recorded(found: Statistics, inputs: dict[tuple[str, str], Any]):
    assert set(found.entries) == {(branch, shared_input(name)) for branch, name in inputs}
    assert ("unconditional", "llm_cond_proj") not in found.entries
    found.check(TINY)


def test_the_statistics_are_those_of_numpy(found: Statistics, inputs: dict[tuple[str, str], list[list[np.ndarray]]]):
    for (branch, name), steps in inputs.items():
        copies = 3 if name.endswith("qkv") else 1  # to_q, to_k and to_v see the same rows
        rows = [np.concatenate(step[::copies]).astype(np.float64) if step else np.zeros((0, 1)) for step in steps]
        got = found.get(branch, name)  # type: ignore[arg-type]
        assert got is not None
        x = np.concatenate([r for r in rows if len(r)])
        assert np.array_equal(got.amax.double().numpy(), np.abs(x).max(0))
        assert np.allclose(got.square_sum.numpy(), (x**2).sum(0), rtol=1e-6)
        assert int(got.count) == len(x)
        assert got.step_count.tolist() == [len(r) for r in rows]
        for step, r in enumerate(rows):
            if not len(r):
                assert got.step_peak_max[step] == got.step_peak_mean[step] == 0
                continue
            mean = np.abs(r).mean(1)
            peaks = np.where(mean > 0, np.abs(r).max(1) / np.where(mean > 0, mean, 1), 1)
            assert np.isclose(got.step_peak_max[step], peaks.max(), rtol=1e-5)
            assert np.isclose(got.step_peak_mean[step], peaks.mean(), rtol=1e-5)
        assert {tuple(row) for row in got.sample.double().numpy()} <= {tuple(row) for row in x}


def test_the_sample_is_the_rows_of_smallest_keys(found: Statistics, inputs: dict[tuple[str, str], list[list[np.ndarray]]]):
    steps = inputs["conditional", "layers.1.feed_forward.w2"]
    rows = torch.from_numpy(np.concatenate([np.concatenate(step) for step in steps]))
    keys = torch.cat([row_keys(f"label/conditional/{step}", 13) for step in range(STEPS)])
    smallest = keys.argsort()[:7]
    got = found.entries["conditional", "layers.1.feed_forward.w2"]
    assert torch.equal(got.sample_key, keys[smallest])
    assert torch.equal(got.sample, rows[smallest])


def test_chunks_change_nothing_but_roundings(
    branches: dict[Branch, Ideogram4Transformer2DModel], found: Statistics, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recorder, "_ROWS_AT_ONCE", 5)
    again = record(branches)
    for key, entry in found.entries.items():
        other = again.entries[key]
        assert torch.equal(other.amax, entry.amax) and torch.equal(other.sample, entry.sample)
        assert torch.equal(other.step_peak_max, entry.step_peak_max) and torch.equal(other.count, entry.count)
        assert torch.allclose(other.square_sum, entry.square_sum, rtol=1e-6)


def test_hooks_are_gone_afterwards_even_if_it_fails(branches: dict[Branch, Ideogram4Transformer2DModel]):
    with pytest.raises(KeyboardInterrupt), Recorder(branches, TINY, PLAN, "label"):
        raise KeyboardInterrupt
    assert not any(module._forward_pre_hooks for transformer in branches.values() for module in transformer.modules())


def test_values_that_are_not_finite_are_refused(branches: dict[Branch, Ideogram4Transformer2DModel]):
    with Recorder(branches, TINY, PLAN, "label") as watching:
        branches["conditional"].input_proj(torch.full((1, 2, 16), float("inf")))
    with pytest.raises(ArtifactError, match="inputs of conditional/input_proj/amax is not finite"):
        watching.finish()


def test_keys_are_splitmix64():
    state = int.from_bytes(hashlib.sha256(b"a label").digest()[:8], "little")
    expected = []
    for _ in range(50):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        expected.append((z ^ (z >> 31)) % 2**63)
    assert row_keys("a label", 50).tolist() == expected
