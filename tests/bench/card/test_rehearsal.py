"""`bench card --rehearse`: every phase runs on the CPU, and what is not installed is a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ideogram_q8.__main__ import main
from ideogram_q8.bench import results
from ideogram_q8.bench.card import lines, setting
from ideogram_q8.bench.card.phases import PHASES
from ideogram_q8.runtime.loading.streaming import piece_sizes

ROOT = Path(__file__).resolve().parents[3]
GENEROUS = "1500"
"""Seconds, of which each phase has its share; it takes less than 50 on two cores."""
LIBRARIES = ("diffusers", "comfy_kitchen", "gradio", "transformers")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    assert main(["bench", "card", "--out", str(folder), "--rehearse", "--seconds", GENEROUS]) == 0
    return folder


def read(folder: Path) -> list[lines.CardLine]:
    found, damaged = lines.read(folder / lines.FILE)
    assert not damaged
    return found


def test_every_phase_ends_and_nothing_fails(rehearsed):
    found = read(rehearsed)
    ends = [(line.phase, line.state) for line in found if not line.name and line.state != "planned"]
    assert ends == [(phase.name, "done") for phase in PHASES]
    assert [line for line in found if line.state in ("failed", "wrong", "late", "missing")] == []


def test_what_is_planned_is_a_line(rehearsed):
    found = read(rehearsed)
    for phase in PHASES:
        (plan,) = [line for line in found if line.phase == phase.name and line.state == "planned"]
        assert [line.name for line in found if line.phase == phase.name and line.name] == plan.found["names"]
        assert plan.found["names"]


def test_what_needs_a_card_says_so(rehearsed):
    refused = {line.name: line.reason for line in read(rehearsed) if line.state == "refused"}
    assert refused["overlapped"] == refused["int8-overlap"] == "two streams need CUDA"
    assert refused["norms, positions, guided step"] == "needs CUDA"
    assert refused["rtx-3090"].startswith("measured on a CPU")


def test_memory_of_every_stage_is_what_was_predicted(rehearsed):
    """Host memory is the device's here, so that the layers of the streamed text encoder count."""
    streamed = 36 * sum(piece_sizes(1))
    found = [line.found for line in read(rehearsed) if line.phase == "stages" and line.name]
    assert len(found) == 8
    for stage in found:
        assert stage["peak_bytes"] - streamed == pytest.approx(stage["predicted_bytes"], rel=0.1), stage


def test_results_are_those_of_the_other_benches(rehearsed):
    denoise = results.read(rehearsed / setting.DENOISE_FILE)
    linear = results.read(rehearsed / setting.LINEAR_FILE)
    assert not denoise.interrupted and not linear.interrupted
    planned = [line.name for line in read(rehearsed) if line.phase == "denoise" and line.name]
    assert [row.variant for row in denoise.rows] == planned and linear.rows


def test_a_second_run_keeps_what_is_there(rehearsed, capsys):
    before = len(read(rehearsed))
    assert main(["bench", "card", "--out", str(rehearsed), "--rehearse", "--seconds", GENEROUS]) == 0
    assert [(line.phase, line.state) for line in read(rehearsed)[before:]] == [(phase.name, "kept") for phase in PHASES]
    printed = capsys.readouterr()
    assert printed.err.count("was finished at") == len(PHASES)
    assert (rehearsed / "card.md").read_text(encoding="utf-8").strip() in printed.out


@pytest.fixture
def poor(tmp_path):
    """The environment of a machine without LIBRARIES."""
    for name in LIBRARIES:
        (tmp_path / "stubs" / name).mkdir(parents=True)
        text = f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n"
        (tmp_path / "stubs" / name / "__init__.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "stubs"), str(ROOT)])}


def test_without_other_libraries_the_rest_is_measured(poor, tmp_path):
    """As on a machine with torch and Triton alone."""
    phases = [phase.name for phase in PHASES if phase.name != "laws"]
    command = [sys.executable, "-m", "ideogram_q8", "bench", "card", "--out", str(tmp_path / "out"), "--rehearse"]
    command += ["--seconds", GENEROUS, "--phases", ",".join(phases)]
    run = subprocess.run(command, env=poor, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = read(tmp_path / "out")
    ends = {line.phase: (line.state, line.reason) for line in found if not line.name and line.state != "planned"}
    missing = ("missing", "diffusers is not installed")
    whole = {"pocket": missing, "denoise": missing, "stages": missing, "streaming": missing}
    assert ends == dict.fromkeys(phases, ("done", "")) | whole
    named = {line.name: line.state for line in found}
    assert named["a step of INT8, tuned"] == "missing" and named["attention.o"] == "done"
    assert [line for line in found if line.state in ("failed", "wrong", "late")] == []
    assert "diffusers is not installed" in run.stdout
