"""A metric is a row of `formats.metrics.METRICS` and a function: it is measured and shown wherever its columns say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ideogram_q8.formats.metrics import METRICS, Metric, TableColumn
from ideogram_q8.formats.report import Measured, NotMeasured, Report
from ideogram_q8.measure import measurement, metrics
from ideogram_q8.measure.compare import assemble, gather
from ideogram_q8.measure.functions import function_of
from ideogram_q8.measure.measurement import measure
from ideogram_q8.measure.pages.page import page
from ideogram_q8.measure.pages.table import markdown, terminal
from ideogram_q8.publishing.cards.card_figures import variant_heads
from ideogram_q8.publishing.cards.family import cards
from ideogram_q8.publishing.release import read_release
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.ui.engine import comparison, judge
from ideogram_q8.ui.engine.events import Picture
from ideogram_q8.ui.parts import fragments
from tests.measure.example import JUDGES, job, paint, suite
from tests.publishing.example import REPORT, card_of, manifest, write_build

DUMMY = Metric(
    *("dummy", "Largest difference of a colour value", "1", "lower", 1.0),
    fidelity=True,
    place="metrics:dummy",
    columns={
        "report": TableColumn("dummy to {reference}", 2, 10),
        "terminal": TableColumn("dummy", 2),
        "card": TableColumn("dummy of a card to {reference}", 1),
        "family": TableColumn("dummy of a folder"),
        "compare": TableColumn("Dummy", 1, ending=" steps"),
        "picture": TableColumn("dummy", 0),
    },
)


def largest_difference(reference: Image.Image, picture: Image.Image) -> float:
    return float(np.abs(np.asarray(reference).astype(int) - np.asarray(picture)).max())


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "dummy", DUMMY)  # type: ignore[arg-type]  # a dict, which the annotation keeps others from changing
    monkeypatch.setattr(metrics, "dummy", largest_difference, raising=False)


def test_it_is_measured_and_in_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Metric("silent", "What no caption has", "1", "higher", 0.1, place="metrics:silent", takes="caption")
    monkeypatch.setitem(METRICS, "silent", silent)  # type: ignore[arg-type]  # as above
    monkeypatch.setattr(metrics, "silent", lambda picture, case: None, raising=False)
    monkeypatch.setattr(measurement, "paint", paint)
    measure(job(tmp_path, suite(4)), JUDGES)
    report = assemble(gather([tmp_path]))
    reference, good, bad = (variant.figures["dummy"] for variant in report.variants)
    assert reference == NotMeasured("the reference itself")
    assert isinstance(good, Measured) and isinstance(bad, Measured) and (good.value, bad.value) == (2.0, 8.0)
    assert {variant.figures["silent"] for variant in report.variants} == {NotMeasured("it applies to no caption")}
    assert report.comparison("bad", "good", "dummy") is not None
    assert Report.from_json(report.to_json()) == report
    assert "| dummy to FP8 |" in markdown(report) and "| 20.00 (20.00 to 20.00) |" in markdown(report)
    assert "8.00 (8.00 to 8.00)" in terminal(report) and DUMMY.title in page(report, {})


def painted(folder: Path, variant: str, level: int) -> Picture:
    path = folder / f"{variant}.png"
    Image.new("RGB", (64, 64), (level, level, level)).save(path)
    return Picture(variant, Request("{}", 7, "turbo-12", 64, 64), path, {"artifact_sha256": "0"}, 0.1, 1.0, 5, 1)


def test_it_is_in_the_compare_tab(tmp_path: Path) -> None:
    columns = comparison.judged([[painted(tmp_path, "fp8", 90)], [painted(tmp_path, "int8", 93)]], ["FP8", "INT8"], [9, 5])
    assert comparison.numbers(columns)["variants"]["int8"]["pictures"][0]["dummy"] == 3.0
    table = fragments.comparison(columns, judge.missing())
    assert '<tr data-metric="dummy"><th>Dummy</th><td>–</td><td>3.0 steps</td></tr>' in table
    assert "LPIPS, Dummy (lower is closer)" in table
    assert "dummy 3" in comparison.facts(columns[1].cells[0])[1]


def with_dummy(report: Report) -> Report:
    figure = Measured(0.25, 64, (0.2, 0.3), "1")
    variants = tuple(dataclasses.replace(v, figures={**v.figures, "dummy": figure}) for v in report.variants)
    return dataclasses.replace(report, variants=variants)


def test_it_is_on_the_cards(tmp_path: Path) -> None:
    card = card_of(manifest(), with_dummy(REPORT))
    assert "| dummy of a card to FP8" in card and "| 0.2 (0.2 to 0.3) |" in card
    assert f"| {DUMMY.title} | 0.2500 (0.2000 to 0.3000, n = 64) |" in card
    assert all("dummy" not in head for head in variant_heads(REPORT)[1])
    for name in ("int8", "int8-auto"):
        write_build(tmp_path / name, dataclasses.replace(manifest(), variant=name), with_dummy(REPORT))
    family = cards(read_release(tmp_path), "someone/builds")["README.md"]
    assert "| dummy of a folder |" in family and "| 0.2500 (0.2000 to 0.3000, n = 64) |" in family


def test_every_row_has_a_function() -> None:
    for metric in METRICS.values():
        assert metric.place is not None or metric.margin is None
        if metric.place is not None and not metric.made:
            assert callable(function_of(metric))
