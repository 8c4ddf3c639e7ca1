"""The pocket's full report: its plan is made of verbs that exist, in an order in which each finds what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.__main__ import build_parser
from ideogram_q8.model.schemes import title
from ideogram_q8.studies import pocket_report
from ideogram_q8.studies.pocket_report import builds, evaluations, main


def test_every_line_is_understood_and_reads_what_was_made_before(tmp_path: Path) -> None:
    made = {"pocket"}
    for file, command in builds(tmp_path):
        arguments = build_parser().parse_args(command)
        assert callable(arguments.verb)
        read = {value for value in vars(arguments).values() if isinstance(value, Path) and value != arguments.out}
        assert {str(path) for path in read} <= made
        made |= {str(file), str(file.parent)}
    for command in evaluations(tmp_path, tmp_path / "out", 7, "turbo-12", 2):
        arguments = build_parser().parse_args(command)
        assert {place.partition("=")[2] for place in arguments.candidate} <= made
        assert len(arguments.candidate) == 7 and arguments.count == 7


def test_every_variant_has_a_title(tmp_path: Path) -> None:
    names = {file.parent.name for file, _ in builds(tmp_path) if file.name == "manifest.json"}
    assert len({title(name) for name in names}) == len(names)
    assert all(title(name) != name for name in names)


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(commands):
        ran.extend(commands)
        for file, command in builds(tmp_path / "builds"):
            if command in commands:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()

    monkeypatch.setattr(pocket_report, "run", run)
    assert main(["--out", str(tmp_path), "--shards", "3"]) == 0
    verbs = [command[0] for command in ran]
    assert verbs[0] == "calibrate" and verbs[-4:] == ["evaluate"] * 4 and ran[-1][1] == "merge"
    ran.clear()
    assert main(["--out", str(tmp_path), "--shards", "3"]) == 0
    assert [command[0] for command in ran] == ["evaluate"] * 4


def test_a_failure_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pocket_report.sys, "executable", "/bin/false")
    assert main(["--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("$ python -m ideogram_q8") == 1 and "1 was the exit code" in printed.err


def test_a_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "new"), "--plan"]) == 0
    assert capsys.readouterr().out.count("python -m ideogram_q8") == 14
    assert not (tmp_path / "new").exists()
