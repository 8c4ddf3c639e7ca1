"""A picture painted in another process is the same, and what it took is that process's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import ImageChops

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.evaluation import painting
from ideogram_q8.evaluation.painting import Order, OtherPrograms, paint
from ideogram_q8.generation import Request, generate
from ideogram_q8.loading import load

REQUESTS = tuple(Request("a red star on a blue background", seed, "turbo-12", 64, 80) for seed in (1, 2))


def test_another_process_paints_the_same() -> None:
    outcome, images = paint(Order("pocket", "cpu", "float32", REQUESTS))
    model = load("pocket")
    for request, image in zip(REQUESTS, images, strict=True):
        assert ImageChops.difference(generate(model, request).image, image).getbbox() is None
    assert outcome.variant == "fp8"
    assert [len(seconds) for seconds in outcome.step_seconds] == [12, 12]
    assert all(second > 0 for seconds in outcome.step_seconds for second in seconds)
    assert all(50e6 < peak < 4e9 for peak in outcome.peak_bytes)


def test_a_refusal_crosses_over(tmp_path: Path) -> None:
    order = Order(str(tmp_path / "nowhere"), "cpu", "float32", REQUESTS)
    (tmp_path / painting.ORDER).write_text(json.dumps(dataclasses.asdict(order)), encoding="utf-8")
    assert painting.main(tmp_path) == 2
    assert "nowhere" in (tmp_path / painting.REFUSAL).read_text(encoding="utf-8")
    assert not (tmp_path / painting.OUTCOME).exists()


def test_a_process_that_dies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting.sys, "executable", "/bin/false")
    with pytest.raises(RequestError, match="painting with pocket ended with exit code 1"):
        paint(Order("pocket", "cpu", "float32", REQUESTS))


def test_an_order_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / painting.ORDER).write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"order\.json: key 'location' is missing"):
        painting.work(tmp_path)


@pytest.mark.parametrize(("busy", "own", "wall", "mean"), [(30, 10, 10, 2), (10, 10, 10, 0), (9.9, 10, 10, 0)])
def test_other_programs_are_what_is_busy_less_what_is_ours(
    monkeypatch: pytest.MonkeyPatch, busy: float, own: float, wall: float, mean: float
) -> None:
    clocks = iter([(100.0, 5.0, 50.0), (100 + busy, 5 + own, 50 + wall)])
    monkeypatch.setattr(painting, "_clocks", lambda: next(clocks))
    assert OtherPrograms().mean_cpus() == pytest.approx(mean)


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "_clocks", lambda: None)
    assert OtherPrograms().mean_cpus() is None
