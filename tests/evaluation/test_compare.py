"""The comparison: every figure comes from its own variant's process, and the reference is the first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from ideogram_q8.checkpoint import open_source
from ideogram_q8.evaluation import compare as comparison
from ideogram_q8.evaluation.compare import compare, step_time, table
from ideogram_q8.evaluation.painting import Order, Outcome
from ideogram_q8.evaluation.suite import pocket_suite
from ideogram_q8.report import Measured, NotMeasured, Report

SUITE = pocket_suite(3)
BRIGHTER = {"a": 0, "b": 0, "c": 10}
LOADS = {"a": 0.01, "b": 0.02, "c": 1.5}


def fake_paint(order: Order) -> tuple[Outcome, list[Image.Image]]:
    """Pictures of noise that depend on the seed, brighter by a constant that depends on the variant."""
    shape = (order.requests[0].height, order.requests[0].width, 3)
    noise = [np.random.default_rng(r.seed).integers(0, 200, shape, dtype=np.uint8) for r in order.requests]
    name = order.location[-1]
    images = [Image.fromarray(picture + np.uint8(BRIGHTER[name])) for picture in noise]
    seconds = ((0.1, 0.2), (0.3, 0.4), (0.5, 9.0))
    return Outcome(
        name, name.replace("b", "1").replace("c", "2").replace("a", "0") * 64, seconds, (5, 9, 7), LOADS[name]
    ), images


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(comparison, "paint", fake_paint)
    monkeypatch.setattr(comparison.ocr, "reader", lambda: lambda picture: SUITE.cases[0].word)
    monkeypatch.setattr(comparison, "open_source", lambda location: open_source("pocket"))
    monkeypatch.setattr(comparison, "weight_files", lambda location: ())
    return compare({name: f"variant {name}" for name in "abc"}, SUITE, "turbo-12", "cpu", "float32")


def measured(result: Report, variant: str, name: str) -> Measured:
    found = result.variant(variant)
    assert found is not None
    figure = found.figures[name]
    assert isinstance(figure, Measured)
    return figure


def test_likeness_is_to_the_first(result: Report) -> None:
    assert result.settings.reference == "a"
    assert isinstance(result.variants[0].figures["psnr"], NotMeasured)
    assert measured(result, "c", "psnr").value == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)
    assert measured(result, "b", "psnr").value == pytest.approx(10 * math.log10(255**2 * 128 * 128 * 3), abs=1e-4)
    assert measured(result, "b", "psnr").n == len(SUITE.cases)
    assert measured(result, "a", "ocr_exact_match").value == pytest.approx(1 / 3, abs=1e-5)


def test_time_and_memory_are_those_of_the_variants_own_process(result: Report) -> None:
    time = measured(result, "b", "seconds_per_step")
    assert (time.value, time.quartiles, time.n) == (0.35, (0.225, 0.475), 6)
    peak = measured(result, "b", "peak_memory")
    assert (peak.value, peak.n) == (9, 3)
    assert [variant.other_cpus for variant in result.variants] == [0.01, 0.02, 1.5]


def test_the_report_survives_and_the_table_warns(result: Report) -> None:
    assert Report.from_json(result.to_json()) == result
    lines = table(result).splitlines()
    assert len(lines) == 1 + 3 + 1 and "the times rank nothing" in lines[-1]


def test_one_slow_step_does_not_move_the_median() -> None:
    assert step_time([0.1] * 99 + [60.0]).value == 0.1
