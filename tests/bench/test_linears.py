"""`bench linear` on narrow products: every way is a row, errors are those of the formats, refusals are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ideogram_q8.bench import machine
from ideogram_q8.bench.linear import linears as bench
from ideogram_q8.bench.linear.linear_paths import PATHS, Path
from ideogram_q8.bench.results import LinearSettings, from_json, to_json
from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import IDEOGRAM4, linears
from ideogram_q8.runtime.kernels import BACKENDS
from tests.bench import example
from tests.synthetic import TINY

CPU = torch.device("cpu")
SETTINGS = LinearSettings("float32", (48,), ("attention.o", "input_proj"), 2, 0)


@pytest.fixture
def result(quick):
    return bench.measure(SETTINGS, CPU, TINY)


def test_every_way_is_a_row_that_was_measured_or_says_why_not(result):
    for kind in SETTINGS.kinds:
        rows = [row for row in result.rows if row.kind == kind]
        assert [row.path for row in rows] == [path.name for path in PATHS]
        for row in rows:
            assert (row.timing is None) == (row.error is None)
            if row.timing is None:
                assert row.note and not row.note.startswith("failed"), row
            else:
                assert len(row.timing.samples) == SETTINGS.rounds and row.operations == 2 * 48 * row.outputs * row.inputs
    assert from_json(to_json(result)) == result


def test_every_back_end_is_measured_or_says_why_not(result):
    rows = {row.path: row for row in result.rows if row.kind == "attention.o"}
    for backend in BACKENDS:
        if backend.name != "dequantize":
            row = rows[f"INT8, {backend.name}"]
            assert row.timing is not None or "needs" in row.note or "definition" in row.note or "slow" in row.note, row
    assert sum(row.note == "the one that runs" for row in rows.values()) == 1


def test_errors_are_those_of_the_formats(result):
    errors = {row.path: row.error for row in result.rows if row.kind == "attention.o" and row.error is not None}
    assert errors["not quantized"] < 1e-6 and errors["FP8, weight only"] < 1e-6
    assert errors["INT8, weight only"] < errors["INT8, rotated"] < 0.015
    assert 0.002 < errors["Q8_0"] < 0.01 < errors["Q4_K"] < 0.1


def test_a_width_that_a_format_cannot_have_is_said(result):
    notes = {row.path: row.note for row in result.rows if row.kind == "input_proj"}
    assert notes["Q4_K"] == "16 inputs are no multiple of 256" and notes["Q8_0"] == "16 inputs are no multiple of 32"
    assert notes["INT8, rotated"] == "16 inputs are no multiple of 256"


def test_all_linears_of_the_model_are_cases():
    found = bench.cases(IDEOGRAM4, (256, 4096), None)
    sizes = {(case.shape.outputs, case.shape.inputs) for case in found}
    for linear in linears(IDEOGRAM4):
        assert (linear.out_features * (2 if linear.name.endswith((".w1", ".w3")) else 1), linear.in_features) in sizes
    rows = {case.shape.kind: case.rows for case in found}
    assert rows["adaln_modulation"] == 48 and rows["llm_cond_proj"] == 512 and rows["input_proj"] == 4096


def test_an_unknown_product_is_refused():
    with pytest.raises(RequestError, match=r"unknown product 'attention\.k'; expected attention\.qkv, attention\.o"):
        bench.measure(replace(SETTINGS, kinds=("attention.k",)), CPU, TINY)


def test_a_way_that_fails_is_a_row(quick):
    def broken(weight):
        raise ValueError("no such kernel")

    paths = [Path("broken", "int8", broken), PATHS[0]]
    rows = bench.measure(replace(SETTINGS, kinds=("attention.o",)), CPU, TINY, paths).rows
    assert rows[0].note == "failed: ValueError: no such kernel" and rows[0].timing is None and rows[1].timing is not None


def test_control_c_leaves_what_was_measured(quick):
    calls = []

    def stop(weight):
        calls.append(weight.case.shape.kind)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return PATHS[0].prepare(weight)

    found = bench.measure(SETTINGS, CPU, TINY, [Path("one", "float", stop)])
    assert found.interrupted and [row.kind for row in found.rows] == ["attention.o"]


def test_clocks_are_read_while_a_product_runs(monkeypatch):
    order, clocks = [], []
    monkeypatch.setattr(bench.timing, "synchronize", lambda _: order.append("wait"))
    monkeypatch.setattr(bench.machine, "clocks", lambda _: order.append("clocks") or example.CLOCKS[0])
    absent = bench._Ready(lambda: order.append("absent"), 0, None, None, "not installed")
    there = bench._Ready(lambda: order.append("work"), 2, 0.1, 0.0, "")
    bench._ask([absent, there], torch.device("cuda"), clocks)
    assert order == ["wait", "work", "work", "clocks", "wait"] and clocks == [example.CLOCKS[0]]
    bench._ask([absent, there], CPU, clocks)
    assert len(order) == 5


def test_each_product_is_kept_before_the_next_one(quick):
    kept = []
    found = bench.measure(SETTINGS, CPU, TINY, PATHS[:1], keep=kept.append)
    assert [[row.kind for row in each.rows] for each in kept] == [["attention.o"], ["attention.o", "input_proj"]]
    assert all(each.interrupted for each in kept) and not found.interrupted


def test_nothing_of_the_librarys_exceeds_the_peak(quick, monkeypatch):
    """Where the peak was measured on a machine that was busy then: it is measured again, and raised to what the library reached."""
    peaks = [
        machine.Peaks("float32", machine.Peak(rate, "torch.mm"), machine.Peak(None, "needs CUDA"), 1.0) for rate in (1.0, 2.0)
    ]
    monkeypatch.setattr(bench.machine, "peaks", lambda *_: peaks.pop(0))
    found = bench.measure(SETTINGS, CPU, TINY, PATHS[:1])
    fastest = max(row.operations / row.timing.fastest for row in found.rows)
    assert found.peaks.floating.rate == fastest and found.peaks.floating.by.startswith("not quantized, ") and not peaks


def test_a_peak_is_raised_by_its_own_arithmetic_where_it_was_measured():
    plain, int8, _ = example.linear().rows
    rates = [row.operations / row.timing.fastest for row in (plain, int8)]
    low = machine.Peaks("bfloat16", machine.Peak(1.0, "a"), machine.Peak(2.0, "b"), 1.0)
    found = bench._raised(low, example.linear().rows)
    assert [found.floating.rate, found.int8.rate] == rates and found.int8.by == "INT8, Triton, attention.o x 4096"
    assert bench._raised(example.PEAKS, example.linear().rows) == example.PEAKS
    without = machine.Peaks("bfloat16", machine.Peak(1e18, "a"), machine.Peak(None, "no VNNI"), 1.0)
    assert bench._raised(without, example.linear().rows) == without


def test_the_better_of_two_peaks_counts():
    def of(floating, int8, rate):
        return machine.Peaks("float32", machine.Peak(floating, f"f{floating}"), machine.Peak(int8, f"i{int8}"), rate)

    assert machine.highest(of(3.0, None, 5.0), of(2.0, 7.0, 6.0)) == of(3.0, 7.0, 6.0)
    assert machine.highest(of(3.0, None, 5.0), of(4.0, None, 4.0)) == of(4.0, None, 5.0)
