"""No line that a command prints holds what a terminal obeys, wherever its text comes from."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from ideogram_q8.__main__ import main
from ideogram_q8.machine.terminal import say, say_json, say_text
from ideogram_q8.recipes import Recipe, choose
from tests.hub.scene import command
from tests.publishing.example import REPORT, manifest, write_build
from tests.synthetic import TINY

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    *sorted((ROOT / "publish").rglob("*.py")),
    *sorted((ROOT / "ideogram_q8" / "commands").rglob("*.py")),
    ROOT / "ideogram_q8" / "__main__.py",
]
ESCAPES = "\x1b[31m\x9b0m\x07\u202e\x7f"
HOSTILE = f"evil{ESCAPES}\nerror: evil"


def lines_that_print(path: Path) -> list[int]:
    """Numbers of lines that print by other means than `say`, which escapes."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and node.id == "print":
            found.append(node.lineno)
        if isinstance(node, ast.Attribute) and node.attr in ("write", "writelines"):
            owner = ast.unparse(node.value)
            if owner in ("sys.stdout", "sys.stderr", "stdout", "stderr"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=[str(path.relative_to(ROOT)) for path in COMMANDS])
def test_commands_print_by_say_alone(path: Path) -> None:
    assert lines_that_print(path) == []


def clean(text: str) -> None:
    assert [c for c in text if c != "\n" and not c.isprintable()] == []
    assert "\nerror: evil" not in text


@pytest.mark.parametrize("to", ["out", "err"])
def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str], to) -> None:
    say(HOSTILE, "second", to=to)
    captured = capsys.readouterr()
    text = captured.out if to == "out" else captured.err
    assert text == "evil\\x1b[31m\\x9b0m\\x07\\u202e\\x7f\\nerror: evil\nsecond\n"


def test_a_text_keeps_its_lines_and_json_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    say_text("a\nb\x1b\n")
    assert capsys.readouterr().out == "a\nb\\x1b\n"
    value = {"a": HOSTILE + "é𝄞\U000e0001", "b": [1]}
    say_json(json.dumps(value, indent=1, ensure_ascii=False))
    text = capsys.readouterr().out
    clean(text)
    assert json.loads(text) == value and "é𝄞" in text


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_plan_of_a_strangers_folder(tmp_path: Path, as_json: list[str]) -> None:
    layers = [{"linear": "input_proj", "scheme": "bf16", "rotation": 0, "reason": HOSTILE, "weighted": False}]
    recipe = dict(manifest().recipe) | {
        "parts": {name: {"layers": layers, "smoothing": []} for name in ("conditional", "unconditional")}
    }
    folder = write_build(tmp_path / "build", dataclasses.replace(manifest(), recipe=recipe), REPORT)
    (folder / HOSTILE.replace("/", "")).write_bytes(b"")
    found = command("plan", folder, "--repo", "someone/pocket-int8", *as_json)
    assert found.code == 0, found.err
    clean(found.out + found.err)
    assert "evil" in found.out
    missing = command("plan", tmp_path / HOSTILE, "--repo", "someone/pocket-int8")
    assert missing.code == 2
    clean(missing.out + missing.err)


def test_a_recipe_and_a_report_of_a_stranger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = choose("int8", TINY)
    parts = {
        name: dataclasses.replace(part, layers=tuple(dataclasses.replace(layer, reason=HOSTILE) for layer in part.layers))
        for name, part in recipe.parts.items()
    }
    text = dataclasses.replace(recipe, parts=parts).to_json()
    assert Recipe.from_json(text).layers[0].reason == HOSTILE
    (tmp_path / "recipe.json").write_text(text, encoding="utf-8")
    assert main(["recipe", "explain", str(tmp_path / "recipe.json")]) == 0
    (tmp_path / "report.json").write_text(REPORT.to_json().replace('"pocket-held-out"', json.dumps(HOSTILE)), encoding="utf-8")
    main(["report", "table", str(tmp_path / "report.json")])
    captured = capsys.readouterr()
    clean(captured.out + captured.err)
    assert "evil" in captured.out
