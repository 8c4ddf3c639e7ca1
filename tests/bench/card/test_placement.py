"""Phases that hold networks, on a second device that mixes with no other: a mistake of placement would show on a card alone."""

from __future__ import annotations

import pytest

from ideogram_q8.bench.card import lines, phase_stages, phase_streaming
from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.runtime.layers import fusing
from tests.second_device import second_device


@pytest.mark.parametrize("phase", [phase_stages, phase_streaming], ids=lambda module: module.__name__.rpartition("_")[2])
def test_no_tensor_is_on_another_device(phase, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(fusing, "_neighbours", lambda _: False)  # tensors of the second device have no addresses
    report = PhaseReport(tmp_path / lines.FILE, "run", "stack", "phase", 1e6)
    with second_device() as far:
        monkeypatch.setattr(CardSetting, "device", far)
        phase.run(CardSetting(tmp_path, True), report)
    found = [line for line in lines.read(tmp_path / lines.FILE)[0] if line.name]
    assert found and {(line.state, line.reason) for line in found} == {("done", "")}
