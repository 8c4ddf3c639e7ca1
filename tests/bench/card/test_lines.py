"""card.jsonl: what was written is read, whatever a killed process left at its end."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ideogram_q8.bench.card import lines
from ideogram_q8.bench.card.lines import FORMAT_VERSION, CardLine
from ideogram_q8.errors import RequestError


def line(name: str = "a", **others) -> CardLine:
    made = CardLine(
        FORMAT_VERSION, "run", "at", "torch 1", "hardware", name, "done", 1.5, "", {"rate": 2.0, "names": ["x", None]}
    )
    return dataclasses.replace(made, **others)


def test_lines_are_read_as_they_were_written(tmp_path):
    path = tmp_path / lines.FILE
    assert lines.read(path) == ([], 0)
    written = [line("a"), line("b", state="failed", reason="ü\nx"), line("")]
    for each in written:
        lines.append(path, each)
    assert lines.read(path) == (written, 0)


@pytest.mark.parametrize("end", [b'{"format_version": 1, "ru', b"\xff\xfe", b'{"format_version": 1}', b"null", b"[" * 9000])
def test_an_unfinished_line_costs_itself_alone(end, tmp_path):
    path = tmp_path / lines.FILE
    lines.append(path, line("a"))
    with path.open("ab") as file:
        file.write(end)
    lines.append(path, line("b"))
    found, damaged = lines.read(path)
    assert [each.name for each in found] == ["a", "b"] and damaged == 1


def test_a_file_of_another_kind_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="cannot read"):
        lines.read(tmp_path)
    monkeypatch.setattr(lines, "_MOST_BYTES", 10)
    (tmp_path / "x").write_text("longer than ten bytes")
    with pytest.raises(RequestError, match="expected what `bench card` wrote"):
        lines.read(tmp_path / "x")


def test_whatever_is_found_becomes_json(tmp_path):
    given = {"a": (1, math.inf, math.nan), 2: torch.float32, "line": line("b"), "none": None, "yes": True}
    found = lines.plain(given)
    assert found == {
        "a": [1, None, None],
        "2": "torch.float32",
        "line": dataclasses.asdict(line("b")) | {"found": {"rate": 2.0, "names": ["x", None]}},
        "none": None,
        "yes": True,
    }
    lines.append(tmp_path / lines.FILE, line(found=found))
    assert lines.read(tmp_path / lines.FILE)[0][0].found == found
