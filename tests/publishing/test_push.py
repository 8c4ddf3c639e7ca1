"""The command: what a push would send, and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import Traits
from ideogram_q8.publishing.push import main
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.publishing.example import AGREEMENT, NAMES, REPORT, manifest, sha256, write_build
from tests.synthetic import write_source

REPO = "someone/pocket-int8"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pocket(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build", manifest(), REPORT)


@pytest.fixture
def ideogram(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "LICENSE.md").write_text(AGREEMENT, encoding="utf-8")
    return write_build(tmp_path / "build", manifest(str(source)))


def plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["plan", str(folder), "--repo", REPO, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_plan_lists_all_files_and_the_card(pocket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = plan(pocket, capsys)
    files = {file["path"]: file for file in values["files"]}
    weights = set(NAMES.values())
    assert set(files) == weights | {"README.md", "SHA256SUMS", "manifest.json", "report.json", "samples/star.png", "LICENSE"}
    for name in weights | {"manifest.json", "report.json"}:
        content = (pocket / name).read_bytes()
        assert (files[name]["size"], files[name]["sha256"]) == (len(content), sha256(content))
    assert files["README.md"]["sha256"] == sha256(values["card"].encode())
    assert values["upload_bytes"] == sum(file["size"] for file in files.values())
    assert values["remote"] == {"consulted": False, "parent": None}
    assert values["notes"] == []


def test_plan_for_people(pocket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(pocket), "--repo", REPO]) == 0
    shown = capsys.readouterr()
    assert "the remote was not consulted" in shown.out
    assert sha256((pocket / NAMES["conditional"]).read_bytes()) in shown.out
    assert "# Pocket, INT8 W8A8" in shown.out
    assert f"checking {NAMES['conditional']}" in shown.err


def test_a_real_build_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path / "ideogram-4-fp8", traits=None)
    (source / "LICENSE.md").write_text(AGREEMENT, encoding="utf-8")
    for scheme in ("int8", "q8_0", "q4_k_s"):
        opened = open_source(source)
        build = quantize(opened, choose(scheme, opened.config), tmp_path / scheme)
        values = plan(tmp_path / scheme, capsys)
        sizes = {file["path"]: file["size"] for file in values["files"]}
        assert {file.path: file.size for file in build.files}.items() <= sizes.items()
        assert values["artifact_sha256"] == build.artifact_sha256
        assert re.search(r"\| `adaln_proj` \| 2 \| bfloat16 \|", values["card"])


def test_card_can_be_written(pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "card.md"
    assert main(["plan", str(pocket), "--repo", REPO, "--json", "--card", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == json.loads(capsys.readouterr().out)["card"]


def test_ideogram_carries_agreement_and_notice(ideogram: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = plan(ideogram, capsys)
    assert {"LICENSE.md", "Notice"} <= {file["path"] for file in values["files"]}
    assert values["licence"] == "Ideogram Non-Commercial Model Agreement"
    source = ideogram.parent / "source"
    assert f"manifest.json will name ideogram-ai/ideogram-4-fp8 as the source instead of the folder {source}" in values["notes"]
    assert any("no report.json" in note for note in values["notes"])
    assert any("left out: samples/star.png" in note for note in values["notes"])


def _truncate(folder: Path) -> None:
    path = folder / NAMES["conditional"]
    path.write_bytes(path.read_bytes()[:-1])


def _flip(folder: Path) -> None:
    path = folder / NAMES["unconditional"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _spoil_header(folder: Path) -> None:
    path = folder / NAMES["unconditional"]
    path.write_bytes(b"?" + path.read_bytes()[1:])


def _unknown_source(folder: Path) -> None:
    build = manifest("/elsewhere", Traits("Other", 64, 128, (64, 64), (3.0, 2.0)))
    (folder / "manifest.json").write_text(build.to_json(), encoding="utf-8")


def _other_measurement(folder: Path) -> None:
    other = dataclasses.replace(REPORT.variants[1], artifact_sha256="0" * 64)
    report = dataclasses.replace(REPORT, variants=(REPORT.variants[0], other))
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, "bytes, its manifest says"),
        (_flip, "it changed since it was written"),
        (_spoil_header, "its header cannot be read"),
        (lambda f: (f / NAMES["conditional"]).unlink(), "is missing; quantize again"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing; write the artifact with"),
        (lambda f: (f / "manifest.json").write_text("{}"), "manifest.json: key 'format_version' is missing"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "manifest.json is not UTF-8 text"),
        (lambda f: (f / "report.json").write_text("[1]"), "report.json: got [1], expected an object"),
        (lambda f: (f / "samples" / "star.png").write_bytes(b"other"), "star.png has sha256"),
        (lambda f: (f / "samples" / "star.png").unlink(), "star.png is missing"),
        (_unknown_source, "whose licence is not known here"),
        (_other_measurement, "report.json measured a int8 build"),
    ],
)
def test_refusals(pocket: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], message: str) -> None:
    spoil(pocket)
    assert main(["plan", str(pocket), "--repo", REPO]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_ideogram_without_agreement_is_refused(ideogram: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ideogram.parent / "source" / "LICENSE.md").unlink()
    assert main(["plan", str(ideogram), "--repo", REPO]) == 2
    assert "put LICENSE.md into" in capsys.readouterr().err


def test_malformed_repository_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "nothing"), "--repo", "no-slash"]) == 2
    assert capsys.readouterr().err.startswith("error: --repo is 'no-slash'")


def test_runs_as_a_file_from_anywhere(pocket: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "publish" / "push.py"), "plan", str(pocket), "--repo", REPO, "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["repo"] == REPO
