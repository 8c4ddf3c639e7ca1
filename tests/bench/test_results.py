"""Results survive their files, and tables leave nothing out."""

from __future__ import annotations

import json

import pytest

from ideogram_q8.bench import results, tables
from ideogram_q8.errors import ArtifactError, RequestError
from tests.bench import example

RESULTS = [example.denoise(), example.linear(), example.load()]
BY_ACTION = pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.action)


@BY_ACTION
def test_a_file_gives_the_same_result_back(result, tmp_path):
    path = tmp_path / "result.json"
    results.write(path, results.to_json(result))
    assert results.read(path) == result
    assert path.read_text(encoding="utf-8").count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


@BY_ACTION
def test_a_table_has_every_row_and_why_one_was_not_measured(result):
    text = tables.table(result)
    for row in result.rows:
        shown = getattr(row, "label", None) or getattr(row, "path", None) or row.place
        assert shown.removeprefix("unknown") in text or row.variant in text
        assert row.note in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[: len(result.rows) + 2]}) == 1


def test_a_denoise_table_has_the_ratios():
    text = tables.denoise_rows(example.denoise())
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:]] for line in text.splitlines()[2:]}
    assert cells["label of int8"][:3] == ["10 ms (10 ms to 20 ms)", "2.00x", "1.00x"]
    assert cells["peer: label of comfy"][1:3] == ["1.60x", "0.80x"]
    assert cells["peer: label of torchao"][:3] == ["–", "–", "–"] and cells["peer: label of torchao"][-2] == "not installed"


def test_a_linear_table_has_the_share_of_the_peak():
    text = tables.linear_rows(example.linear())
    assert "| 62 %" in text  # 5e14 of 8e14
    assert "| 53 %" in text  # 8e14 of 15e14


def test_clocks_and_what_slowed_them_are_shown():
    text = tables.table(example.denoise())
    assert "clock 1700 to 1980 of 1980 MHz, 400 to 690 of 700 W, up to 66 degrees; slowed by power cap" in text
    assert "stopped" not in text and "stopped" in tables.table(example.linear())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "dance"}, "action is 'dance', expected one of linear, denoise, load"),
        ({"format_version": 99}, "format_version is 99, expected 1; measure again"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"machine": 3}, "machine: got 3, expected an object"),
    ],
)
def test_what_is_no_result_is_refused(change, message, tmp_path):
    value = json.loads(results.to_json(example.denoise())) | change
    (tmp_path / "x.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        results.read(tmp_path / "x.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"cannot read .*none\.json"):
        results.read(tmp_path / "none.json")


def test_more_than_the_peak_says_how_the_peak_was_measured():
    assert tables.share(1.0) == "100 %" and tables.share(0.375) == "38 %"
    assert tables.share(3.37) == "337 %: the peak was measured under load"
