"""From measurements to a report, its tables, its page, its contact sheets, and the check against an earlier one."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from ideogram_q8 import __main__ as command_line
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.report import Measured, NotMeasured, Report
from ideogram_q8.measure import measurement
from ideogram_q8.measure.compare import Whole, assemble, gather, time_of
from ideogram_q8.measure.measurement import measure
from ideogram_q8.measure.pages.page import page
from ideogram_q8.measure.pages.sheets import chosen, contact_sheets
from ideogram_q8.measure.pages.table import markdown, terminal
from ideogram_q8.measure.regression import Regression, changes
from tests.measure.example import JUDGES, job, paint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "paint", paint)
        measure(job(out), JUDGES)
    return gather([out])


@pytest.fixture(scope="module")
def result(whole: Whole) -> Report:
    found = assemble(whole)
    return dataclasses.replace(found, hardware=dataclasses.replace(found.hardware, threads=1))


def figure(result: Report, variant: str, name: str) -> Measured:
    found = result.variant(variant)
    assert found is not None
    value = found.figures[name]
    assert isinstance(value, Measured)
    return value


def test_figures_are_those_of_the_pictures(result: Report) -> None:
    reference = result.variants[0].figures
    assert reference["psnr"] == NotMeasured("the reference itself") and reference["lpips"] == NotMeasured(
        "the reference itself"
    )
    assert result.variants[1].figures["lpips"] == NotMeasured("not here")
    assert figure(result, "good", "psnr").value == pytest.approx(
        10 * 4.8131 - 6.02 + 1.76, abs=0.2
    )  # 2 levels in 2/3 of the values
    assert figure(result, "good", "psnr").value - figure(result, "bad", "psnr").value == pytest.approx(12.04, abs=0.2)
    assert figure(result, "bad", "ocr_exact_match").n == 16  # a third of the captions asks for no text
    assert figure(result, "good", "velocity_snr").value == pytest.approx(37)


def test_costs_are_medians_and_peaks(result: Report) -> None:
    time = figure(result, "good", "seconds_per_step")
    assert (time.value, time.quartiles, time.n) == (0.2, (0.1, 0.3), 72)
    assert figure(result, "good", "load_seconds") == Measured(1.5, 1, None, "s")
    assert [figure(result, "bad", f"peak_memory{stage}").value for stage in ("", "_text", "_denoise", "_decode")] == [
        500,
        100,
        300,
        200,
    ]
    assert time_of([0.1] * 99 + [60.0]).value == 0.1
    assert result.variants[0].other_cpus == 0.01 and result.disturbed is False


def test_every_pair_is_compared_and_the_planted_regression_found(result: Report) -> None:
    assert {(c.candidate, c.baseline) for c in result.comparisons} == {("good", "fp8"), ("bad", "fp8"), ("bad", "good")}
    psnr = result.comparison("bad", "good", "psnr")
    assert psnr is not None and psnr.verdict == "worse" and psnr.bca[1] < -11
    assert result.comparison("good", "fp8", "psnr") is None  # the reference has none
    words = result.comparison("bad", "fp8", "ocr_exact_match")
    assert words is not None and words.verdict == "worse" and words.difference == -0.5
    same = result.comparison("good", "fp8", "ocr_exact_match")
    assert same is not None and same.difference == 0 and same.verdict == "undecided"  # 16 captions prove no equality
    assert same.bca == (pytest.approx(-0.206, abs=1e-3), pytest.approx(0.206, abs=1e-3))


def test_all_read_is_not_certainty(result: Report) -> None:
    assert figure(result, "good", "ocr_exact_match").interval == (pytest.approx(0.794, abs=1e-3), 1.0)


def test_the_report_survives_and_holds_what_its_statistics_need(result: Report) -> None:
    again = Report.from_json(result.to_json())
    assert again == result
    values = [value for value in again.variants[1].values["psnr"] if value is not None]
    assert sum(values) / len(values) == pytest.approx(figure(result, "good", "psnr").value, abs=1e-5)
    assert [case.category for case in again.cases[:2]] == ["signs", "words"]
    assert len(again.variants[1].steps) == 3 and again.variants[0].steps == ()


def test_the_tables_have_a_line_a_variant(result: Report) -> None:
    lines = markdown(result).splitlines()
    assert len(lines) == 2 + 3 and lines[2].startswith(
        "| FP8 (the original) | 0.00 MB | – | – | – | – | 100.0 % (79.4 to 100.0) |"
    )
    assert "| 50.0 % (" in lines[4] and "| worse |" in lines[4] and "| 200 ms |" in lines[4]
    assert len({line.count("|") for line in lines}) == 1
    assert len(terminal(result).splitlines()) == 1 + 3
    busy = dataclasses.replace(result.variants[0], other_cpus=2.0)
    beside = dataclasses.replace(result, variants=(busy, *result.variants[1:]))
    assert "the times rank nothing" in terminal(beside) and " ms |" not in markdown(beside)


def test_contact_sheets_show_the_worst_first(whole: Whole) -> None:
    psnr = [value or 0.0 for value in whole.variants[2].values("psnr")]
    shown = chosen(whole.variants[2])
    assert shown["worst"][0] == psnr.index(min(psnr)) and shown["best"][0] == psnr.index(max(psnr))
    assert len({place for places in shown.values() for place in places}) == 12
    sheets = contact_sheets(whole)
    assert list(sheets) == ["good", "bad"]
    with Image.open(io.BytesIO(sheets["bad"])) as sheet:
        assert sheet.format == "WEBP" and sheet.width > 1000


def test_the_page_needs_no_other_file_and_runs_nothing(whole: Whole, result: Report) -> None:
    sheets = contact_sheets(whole)
    text = page(result, sheets)
    assert text.count("<svg") == 5 and text.count("data:image/webp;base64,") == 2
    assert "<script" not in text.lower() and not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "prefers-color-scheme: dark" in text and "currentColor" in text and "#010203" not in text
    assert page(result, sheets) == text


def test_names_from_files_are_text_on_the_page(result: Report) -> None:
    evil = dataclasses.replace(
        result.variants[2], figures=result.variants[2].figures | {"lpips": NotMeasured("<script>alert(1)</script>")}
    )
    suite = dataclasses.replace(result.suite, name="<img src=x>")
    text = page(dataclasses.replace(result, suite=suite, variants=(*result.variants[:2], evil)), {})
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text


# ---- report compare ----


def worsened(result: Report, by: float, metric: str = "psnr") -> Report:
    """The same report with every caption of `good` worse by about `by`."""
    good = result.variants[1]
    values = tuple(None if v is None else v - by * (1 + 0.01 * (i % 3)) for i, v in enumerate(good.values[metric]))
    changed = dataclasses.replace(good, values=dict(good.values) | {metric: values})
    return dataclasses.replace(result, variants=(result.variants[0], changed, result.variants[2]))


def test_a_report_is_no_worse_than_itself(result: Report) -> None:
    assert changes(result, result) == []


@pytest.mark.parametrize(("by", "regression"), [(2.0, True), (0.1, False), (-2.0, False)])
def test_a_regression_is_worse_beyond_noise_and_by_enough_to_matter(result: Report, by: float, regression: bool) -> None:
    (found,) = changes(result, worsened(result, by))
    assert (found.variant, found.metric, found.regression) == ("good", "psnr", regression)
    assert ("less than matters" in found.text) == (by == 0.1)


def test_noise_is_no_regression(result: Report) -> None:
    good = result.variants[1]
    values = tuple(None if v is None else v + (-1) ** i * (i // 2 % 5) for i, v in enumerate(good.values["psnr"]))
    changed = dataclasses.replace(good, values=dict(good.values) | {"psnr": values})
    assert changes(result, dataclasses.replace(result, variants=(result.variants[0], changed, result.variants[2]))) == []


def slower(result: Report, factor: float, other_cpus: float = 0.0) -> Report:
    good = result.variants[1]
    figures = dict(good.figures) | {"seconds_per_step": Measured(0.2 * factor, 72, None, "s", (0.1 * factor, 0.3 * factor))}
    changed = dataclasses.replace(good, figures=figures, other_cpus=other_cpus)
    return dataclasses.replace(result, variants=(result.variants[0], changed, result.variants[2]))


def test_times_count_on_a_quiet_machine_only(result: Report) -> None:
    assert changes(result, slower(result, 2)) == [Regression("good", "seconds_per_step", "0.2 s before, 0.4 s now", True)]
    assert changes(result, slower(result, 1.3)) == []  # within the quartiles
    assert changes(result, slower(result, 2, other_cpus=1.0)) == []


def test_reports_of_different_things_are_not_compared(result: Report) -> None:
    other = dataclasses.replace(result, settings=dataclasses.replace(result.settings, dtype="bfloat16"))
    with pytest.raises(RequestError, match="different settings"):
        changes(result, other)


def test_the_command_has_an_exit_code(result: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(result.to_json(), encoding="utf-8")
    new.write_text(worsened(result, 2).to_json(), encoding="utf-8")
    assert command_line.main(["report", "compare", str(old), str(old)]) == 0
    assert command_line.main(["report", "compare", str(old), str(new)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("0 regressions\nREGRESSION: good: psnr: worse by 2.0") and printed.endswith("1 regression\n")
    assert command_line.main(["report", "compare", str(old), str(tmp_path / "none.json")]) == 2
    assert command_line.main(["report", "table", str(old)]) == 0
    assert capsys.readouterr().out == markdown(result)
