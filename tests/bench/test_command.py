"""`bench linear|denoise|load|project` at the command line: a table, then one line of JSON, kept on request."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.bench import loads, results
from ideogram_q8.bench.linear import linears
from ideogram_q8.bench.linear.linear_paths import OWN, PATHS
from ideogram_q8.bench.picture import denoise
from ideogram_q8.commands import bench
from ideogram_q8.runtime.kernels.choosing import table, tuning
from ideogram_q8.runtime.kernels.linear import int8
from tests.bench import example

ACTIONS = {"linear": linears, "denoise": denoise, "load": loads}
RESULTS = {"linear": example.linear(), "denoise": example.denoise(), "load": example.load()}
ARGUMENTS = {"linear": [], "denoise": [], "load": ["pocket"]}


@pytest.fixture(params=ACTIONS)
def action(request, monkeypatch):
    """An action whose measuring gives a result that is made up."""

    def measured(*arguments, on_progress, **others):
        on_progress(results.BenchProgress(1, 2, "half"))
        return RESULTS[request.param]

    monkeypatch.setattr(ACTIONS[request.param], "measure", measured)
    return request.param


def test_a_table_then_one_line_of_json(action, capsys, tmp_path):
    code = 130 if RESULTS[action].interrupted else 0
    assert main(["bench", action, *ARGUMENTS[action], "--out", str(tmp_path / "kept.json")]) == code
    lines = capsys.readouterr().out.splitlines()
    assert results.from_json(lines[-1]) == RESULTS[action] == results.read(tmp_path / "kept.json")
    assert sum(line.startswith("| ") for line in lines) > len(RESULTS[action].rows)
    assert main(["bench", action, *ARGUMENTS[action], "--json"]) == code
    (line,) = capsys.readouterr().out.splitlines()
    assert results.from_json(line) == RESULTS[action]


@pytest.mark.parametrize("name", ACTIONS)
def test_what_dies_leaves_what_it_measured(name, monkeypatch, tmp_path):
    """As after a driver's fault or SIGTERM: nothing runs after it."""
    unfinished = replace(RESULTS[name], interrupted=True)

    def dies(*_, keep, **__):
        keep(unfinished)
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(ACTIONS[name], "measure", dies)
    with pytest.raises(RuntimeError):
        main(["bench", name, *ARGUMENTS[name], "--out", str(tmp_path / "kept.json")])
    assert results.read(tmp_path / "kept.json") == unfinished


@pytest.mark.parametrize(("given", "paths"), [([], PATHS), (["--no-peers"], OWN)])
def test_peers_can_be_left_out_of_products(monkeypatch, given, paths):
    asked = []
    monkeypatch.setattr(linears, "measure", lambda *_, **named: asked.append(named["paths"]) or RESULTS["linear"])
    main(["bench", "linear", *given])
    assert asked == [paths] and not any("peer" in path.name for path in OWN)


def test_control_c_prints_what_was_measured_and_exits_so(monkeypatch, capsys):
    monkeypatch.setattr(linears, "measure", lambda *_, **__: RESULTS["linear"])
    assert main(["bench", "linear"]) == 130
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["interrupted"] and printed.err.endswith("interrupted\n")


def test_a_projection_prints_its_assumptions(tmp_path, capsys):
    results.write(tmp_path / "card.json", results.to_json(example.denoise()))
    assert main(["bench", "project", str(tmp_path / "card.json"), "--card", "rtx-3090", "--out", str(tmp_path / "p.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found == json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert found["card"] == "RTX 3090" and [row["name"] for row in found["rows"]] == [
        row.label for row in RESULTS["denoise"].rows if row.timing is not None
    ]
    for text in found["assumptions"]:
        assert f"- {text}" in lines


def test_a_cpus_projection_is_refused_in_one_line(tmp_path, capsys):
    results.write(tmp_path / "cpu.json", results.to_json(example.denoise(example.CPU)))
    assert main(["bench", "project", str(tmp_path / "cpu.json")]) == 2
    error = capsys.readouterr().err
    assert "cpu.json: measured on a CPU (A processor)" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "cap"), [([], 24 * 10**9), (["--memory-cap", "0"], None), (["--memory-cap", "16"], 16 * 10**9)]
)
def test_a_large_card_is_held_to_24_gb_unless_asked_otherwise(arguments, cap, monkeypatch, capsys):
    settings = []

    def measured(found, device, on_progress, keep):
        settings.append(found)
        return RESULTS["denoise"]

    monkeypatch.setattr(denoise, "measure", measured)
    monkeypatch.setattr(bench, "check_device", lambda _: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 10**9))
    assert main(["bench", "denoise", *arguments]) == 0
    assert [each.memory_cap for each in settings] == [cap]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["linear", "--rows", "a"], "--rows is 'a'; expected numbers of rows, as 256,4096"),
        (["linear", "--rounds", "0"], "--rounds is 0; expected 1 to 1000"),
        (["linear", "--seed", "-1"], "--seed is -1; expected 0 to 2147483647"),
        (["linear", "--products", "x"], "unknown product 'x'"),
        (["linear", "--out", "x.txt"], "--out is x.txt; expected a file name that ends with .json"),
        (["denoise", "--variants", "x"], "unknown variant 'x'; expected unquantized"),
        (["denoise", "--size", "100x100"], "a side is 100"),
        (["denoise", "--memory-cap", "24"], "a memory cap needs CUDA"),
        (["denoise", "--memory-cap", "0.5"], "--memory-cap is 0.5; expected gigabytes, for example 24, or 0"),
        (["load", "--folder", "nowhere"], "no folder nowhere"),
        (["load", "pocket", "--layers", "2"], "--layers is of a random checkpoint"),
        (["project", "nowhere.json"], "cannot read nowhere.json"),
    ],
)
def test_what_is_refused_is_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


def test_the_file_has_what_was_measured_by_then(action, monkeypatch, tmp_path):
    """Whatever ends the program: here a fault of the last measurement."""

    def measured(*arguments, keep, **others):
        keep(RESULTS[action])
        assert results.read(tmp_path / "kept.json") == RESULTS[action]
        raise ZeroDivisionError

    monkeypatch.setattr(ACTIONS[action], "measure", measured)
    with pytest.raises(ZeroDivisionError):
        main(["bench", action, *ARGUMENTS[action], "--out", str(tmp_path / "kept.json")])
    assert results.read(tmp_path / "kept.json") == RESULTS[action]


def test_bench_tune_keeps_each_product_before_the_next_one(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []

    def measure(problem, *_):
        if len(measured) == 2:
            raise ZeroDivisionError
        measured.append(problem)
        return table.TimedEntry(problem.shape, {"exact float32 chunks": 1.0}, None)

    monkeypatch.setattr(tuning, "measure", measure)
    table.forget()
    with pytest.raises(ZeroDivisionError):
        main(["bench", "tune", "pocket", "--size", "128x128", "--text-tokens", "40"])
    table.forget()
    assert len(measured) == 2 and all(table.find(torch.device("cpu"), problem.shape) for problem in measured)
    table.forget()
    int8.choose.cache_clear()
