"""The runner: whatever happens in a phase is a line, and the next phase begins regardless."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ideogram_q8.bench.card import lines, run
from ideogram_q8.bench.card.phases import Phase

GENEROUS = 600.0
"""Seconds for what takes less than two: others run beside."""


def phase(function: str, seconds: float = 1.0) -> Phase:
    return Phase(function, seconds, "what it settles", f"tests.bench.card.phases_for_tests:{function}")


def measured(folder: Path, *phases: Phase, seconds: float = GENEROUS, **others) -> list[tuple[str, str, str, str]]:
    """Phase, name, state and reason of each new line, but for plans."""
    before = len(lines.read(folder / lines.FILE)[0])
    found = run.measure(folder, seconds, False, phases, **others)[before:]
    return [(line.phase, line.name, line.state, line.reason) for line in found if line.state != "planned"]


def states(found: list[tuple[str, str, str, str]]) -> list[tuple[str, str]]:
    return [(name, state) for _, name, state, _ in found]


def test_what_a_phase_finds_are_lines(tmp_path):
    found = measured(tmp_path, phase("measures"))
    assert found == [
        ("measures", "a", "done", ""),
        ("measures", "b", "refused", "needs CUDA"),
        ("measures", "c", "wrong", "2 of 3"),
        ("measures", "", "done", ""),
    ]
    assert lines.read(tmp_path / lines.FILE)[0][1].found == {"value": 1.5}


def test_what_raises_costs_its_own_measurement(tmp_path):
    found = measured(tmp_path, phase("raises"), phase("measures"))
    assert states(found[:4]) == [("a", "done"), ("b", "failed"), ("c", "done"), ("", "done")]
    assert found[1][3] == "ZeroDivisionError: division by zero" and found[-1][:3] == ("measures", "", "done")
    assert "ZeroDivisionError" in (tmp_path / "raises.log").read_text()


def test_a_library_that_is_not_there_is_named(tmp_path):
    found = measured(tmp_path, phase("lacks_a_library"), phase("measures"))
    assert found[0] == ("lacks_a_library", "", "missing", "a_library_that_nobody_has is not installed")
    assert found[-1][:3] == ("measures", "", "done")


def test_a_process_that_dies_costs_one_measurement(tmp_path):
    found = measured(tmp_path, phase("dies"), phase("measures"))
    assert states(found[:4]) == [("a", "done"), ("b", "failed"), ("c", "done"), ("", "done")]
    assert found[1][3] == "its process ended with code 11" and found[-1][:3] == ("measures", "", "done")


def test_a_lost_device_costs_what_lost_it(tmp_path):
    found = measured(tmp_path, phase("loses_the_device"))
    assert states(found) == [("a", "done"), ("b", "failed"), ("c", "failed"), ("d", "done"), ("", "done")]


def test_a_late_phase_is_stopped_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_GRACE", 0.2)
    late, after = phase("is_late", 1.0), phase("measures", 1e3)
    seconds = 20.0 * (1.0 + 1e3)  # a share of 20 s, in which a busy machine starts a process
    found = measured(tmp_path, late, after, seconds=seconds)
    assert states(found[:2]) == [("a", "done"), ("", "late")]
    assert found[1][3].endswith("; not reached: b") and found[-1][:3] == ("measures", "", "done")
    grandchild = int((tmp_path / "grandchild").read_text())
    for _ in range(100):
        if not alive(grandchild):
            return
        time.sleep(0.1)
    pytest.fail("a process that the phase had started outlived it")


def alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_phase_without_time_is_a_line(tmp_path):
    found = measured(tmp_path, phase("measures", 1e-9), phase("raises", 1.0), seconds=1.5)
    assert found[0][:3] == ("measures", "", "late") and "no time was left" in found[0][3]


def test_what_a_phase_leaves_is_for_the_next(tmp_path):
    shown: list[str] = []
    measured(tmp_path, phase("measures"), phase("raises"), show=shown.append)
    limits = [int(text.split("at most ")[1].split(" ")[0]) for text in shown if text.startswith("[")]
    assert limits[0] == GENEROUS / 2 and limits[1] > limits[0]


def test_a_second_run_measures_what_is_missing_and_says_what_it_kept(tmp_path):
    measured(tmp_path, phase("measures"), phase("lacks_a_library"))
    again = measured(tmp_path, phase("measures"), phase("lacks_a_library"))
    assert [(name, state) for name, _, state, _ in again] == [("measures", "kept"), ("lacks_a_library", "missing")]
    assert "was finished at" in again[0][3]
    assert len(measured(tmp_path, phase("measures"), again=True)) == 4


def test_other_versions_are_measured_anew(tmp_path, monkeypatch):
    measured(tmp_path, phase("measures"))
    monkeypatch.setattr(run, "versions", lambda: "torch 99")
    assert len(measured(tmp_path, phase("measures"))) == 4


def test_control_c_leaves_no_process_and_all_lines(tmp_path):
    def interrupt(text: str) -> None:
        if "a: done" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.measure(tmp_path, GENEROUS, False, [phase("is_late")], show=interrupt)
    assert not alive(int((tmp_path / "grandchild").read_text())) or os.name == "nt"
    assert [line.name for line in lines.read(tmp_path / lines.FILE)[0] if line.state == "done"] == ["a"]
