"""From a finished evaluation to cards, pictures and folders that `push.py` takes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ideogram_q8.__main__ import main
from ideogram_q8.captions.suite import CaptionSuite
from ideogram_q8.commands.evaluate import publish
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.formats.report import Report, VariantFile
from ideogram_q8.measure import measurement
from ideogram_q8.measure.compare import gather
from ideogram_q8.measure.measurement import EvaluationJob, measure
from ideogram_q8.measure.pages import showcase
from ideogram_q8.measure.places import MeasuredVariant
from ideogram_q8.model.architecture import Traits
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples
from ideogram_q8.publishing.cards.cards import rendered
from ideogram_q8.publishing.push import main as push
from ideogram_q8.publishing.release import read_release
from tests.measure.example import JUDGES, TRAITS, paint, place, suite
from tests.publishing.example import manifest, write_build

REPO = "someone/pocket-int8"


def captions() -> CaptionSuite:
    """The last two ask for no text in a place."""
    cases = []
    for i, case in enumerate(suite(6).cases):
        box = {"bbox": [0, 0, 500, 1000]} if i < 4 else {}
        element = {"type": "text", **box, "text": f"WORD{i}", "desc": "letters"}
        caption = json.dumps(
            {"compositional_deconstruction": {"background": "grey", "elements": [element]}}, separators=(",", ":")
        )
        cases.append(dataclasses.replace(case, caption=caption))
    return CaptionSuite("example", tuple(cases))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pocket_report --out` leaves it, with a build that was measured and one that was not."""
    run = tmp_path_factory.mktemp("run")
    build = manifest()
    write_build(run / "builds" / "int8", build)
    write_build(run / "builds" / "int8-paper", dataclasses.replace(build, variant="int8-paper"))
    files = tuple(VariantFile(file.path, file.size, file.sha256) for file in build.files)
    places = [place("fp8"), MeasuredVariant("int8", "somewhere/good", TRAITS, 4, files, None)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "paint", paint)
        measure(EvaluationJob(places, captions(), "turbo-12", (32, 32), "cpu", "float32", run / "report"), JUDGES)
    publish([run / "report"], run / "report")
    return run


def cards_of(run: Path, out: Path, *options: str, repo: str = "ideogram-q8/pocket") -> int:
    """The verb `card` on all builds of a run and its report."""
    return main(["card", str(run / "builds"), "--report", str(run / "report"), "--repo", repo, "--out", str(out), *options])


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cards")
    assert cards_of(finished, out) == 0
    return out


def test_the_card_shows_what_was_measured(made: Path) -> None:
    card = (made / "pocket-int8.md").read_text(encoding="utf-8")
    report = Report.from_json((made / "pocket-report.json").read_text(encoding="utf-8"))
    figures = report.variants[1].figures
    assert f"PSNR **{figures['psnr'].value:.2f} dB**" in card
    assert "](images/comparison.webp)" in card and 'srcset="images/quality-against-size-dark.svg"' in card
    assert "](pocket-report.json)" in card
    for picture in (*Samples.from_json((made / ALBUM).read_text()).images, *report.variants[1].samples):
        assert picture.path in card
        assert (made / picture.path).is_file()


def test_the_same_run_gives_the_same_cards_and_replaces_what_another_left(finished: Path, made: Path, tmp_path: Path) -> None:
    for old in ("pocket-q4_k.md", "manifests/pocket-q4_k.json", "samples/q4_k/a.png", "images/app.png"):
        (tmp_path / old).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).write_text("old")
    assert cards_of(finished, tmp_path) == 0
    assert rendered(tmp_path, "ideogram-q8/pocket") == rendered(made, "ideogram-q8/pocket")
    contents = {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert contents.pop("images/app.png") == b"old"
    assert contents == {file.relative_to(made).as_posix(): file.read_bytes() for file in made.rglob("*") if file.is_file()}


def test_the_build_is_ready_to_push(finished: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert push(["plan", str(finished / "builds" / "int8"), "--repo", REPO, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["problems"] == []
    paths = {file["path"] for file in plan["files"]}
    assert {"images/comparison.webp", ALBUM, "report.json", "samples/int8/words--001.png"} <= paths
    assert not any(path.startswith("samples/fp8") for path in paths)


def test_a_changed_picture_and_a_changed_report_are_refused(finished: Path, made: Path, tmp_path: Path) -> None:
    folder = finished / "builds" / "int8"
    picture, report = folder / "images" / "comparison.webp", folder / "report.json"
    for file, content in (
        (picture, b"other"),
        (report, report.read_bytes().replace(b'"system": "Linux"', b'"system": "linux"')),
    ):
        before = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(IdeogramQ8Error, match="changed since|of another report"):
            read_release(folder)
        file.write_bytes(before)
    read_release(folder)


def test_captions_are_chosen_by_rule(finished: Path) -> None:
    whole = gather([finished / "report"])
    psnr = whole.variants[1].values("psnr")
    with_box = sorted(range(4), key=lambda i: psnr[i] or 0)
    picked = showcase.chosen(whole)
    assert picked[0] == with_box[0] and picked[-1] == with_box[-1] and len(picked) == showcase.SHOWN


@pytest.mark.parametrize(("side", "zoom"), [(128, 2), (256, 1), (1024, 1)])
def test_a_crop_shows_pixels_as_they_are(side: int, zoom: int) -> None:
    picture = Image.effect_noise((side, side), 90).convert("RGB")
    shown = showcase.crop(picture, (0, 0, 100, 1000))
    assert shown.size == (256, 128)
    left = (side - 256 // zoom) // 2
    assert (
        shown.resize((256 // zoom, 128 // zoom), Image.Resampling.NEAREST).tobytes()
        == picture.crop((left, 0, left + 256 // zoom, 128 // zoom)).tobytes()
    )


def test_the_comparison_has_a_row_for_each_variant(finished: Path) -> None:
    whole = gather([finished / "report"])
    one = Image.open(io.BytesIO(showcase.comparison(whole, [0])))
    two = Image.open(io.BytesIO(showcase.comparison(dataclasses.replace(whole, variants=whole.variants * 2), [0, 1])))
    assert two.height - one.height == 2 * 136 and two.width > one.width


def test_charts_stand_on_a_ground_of_their_own(made: Path) -> None:
    light, dark = ((made / "images" / f"quality-against-size-{theme}.svg").read_text() for theme in ("light", "dark"))
    assert "currentColor" not in light + dark and light != dark
    assert '<rect width="100%" height="100%" fill="#ffffff"/>' in light


def test_speed_is_not_drawn_where_other_programs_ran(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showcase, "charts", lambda report: {"Quality against size": "", "Quality against speed": ""})
    report = Report.from_json((finished / "report" / "report.json").read_text())
    for other_cpus, drawn in ((0.0, 2), (1.0, 1), (None, 1)):
        variants = tuple(dataclasses.replace(v, other_cpus=other_cpus) for v in report.variants)
        assert len(showcase._charts(dataclasses.replace(report, variants=variants))) == drawn


def test_a_folder_without_builds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "builds").mkdir()
    assert cards_of(tmp_path, tmp_path / "out") == 2
    assert "has no build with a manifest.json" in capsys.readouterr().err


def planned(folder: Path, repo: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert push(["plan", str(folder), "--repo", repo, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


@pytest.mark.parametrize("repo", ["someone/pocket-int8", "Else.Where/a_model"])
def test_a_build_has_the_card_that_is_pushed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], repo: str
) -> None:
    folder = finished / "builds" / "int8"
    line = ["card", str(folder), "--report", str(finished / "report" / "report.json"), "--repo", repo]
    assert main([*line, "--out", str(tmp_path)]) == 0
    assert f"push {folder} --repo {repo}" in capsys.readouterr().out
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    plan = planned(folder, repo, capsys)
    assert card == plan["card"] and plan["problems"] == []
    assert f"quantized_by: {repo.split('/')[0]}" in card and f"hf download {repo} " in card
    for link in re.findall(r'(?:srcset|src)="(images/[^"]+)"|\]\(((?:images/|report)[^)]+)\)|url: (samples/\S+)', card):
        assert (tmp_path / "".join(link)).is_file(), link
    assert {path["path"] for path in plan["files"]} >= {
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
    }


def test_a_family_has_the_cards_that_are_pushed(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cards_of(finished, tmp_path, "--family", repo="someone/family") == 0
    shown = capsys.readouterr()
    assert f"push {(finished / 'builds').resolve()} --repo someone/family" in shown.out
    assert "none of them int8-paper: every figure of int8-paper reads 'not measured'" in shown.err
    plan = planned(finished / "builds", "someone/family", capsys)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == plan["card"]
    sizes = {file["path"]: (file["size"], file["sha256"]) for file in plan["files"]}
    for file in (tmp_path / "README.md", tmp_path / "int8" / "README.md", tmp_path / "int8-paper" / "README.md"):
        content = file.read_bytes()
        assert sizes[file.relative_to(tmp_path).as_posix()] == (len(content), hashlib.sha256(content).hexdigest())
    row = next(line for line in plan["card"].splitlines() if line.startswith("| [`int8-paper`]"))
    assert row.count("not measured") == 3
    assert (tmp_path / "int8" / "images" / "comparison.webp").is_file()


def test_without_a_report_the_one_beside_the_build_counts_and_else_nothing_is_measured(finished: Path, tmp_path: Path) -> None:
    bare = write_build(tmp_path / "bare", manifest())
    assert main(["card", str(bare), "--repo", REPO, "--out", str(tmp_path / "a")]) == 0
    assert "has **not been measured**" in (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["README.md"]
    assert cards_of(finished, tmp_path / "b") == 0
    again = ["card", str(finished / "builds"), "--repo", "ideogram-q8/pocket", "--out", str(tmp_path / "c")]
    assert main(again) == 0
    assert rendered(tmp_path / "b", "a/pocket") == rendered(tmp_path / "c", "a/pocket")


def test_a_report_without_its_measurements_gives_figures_and_no_pictures(finished: Path, tmp_path: Path) -> None:
    bare = write_build(tmp_path / "bare", manifest())
    (tmp_path / "report.json").write_bytes((finished / "report" / "report.json").read_bytes())
    line = ["card", str(bare), "--report", str(tmp_path / "report.json"), "--repo", REPO]
    assert main([*line, "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "PSNR **" in card and "<Gallery />" not in card and "images/" not in card
    assert read_release(bare).builds[0].album is None


def _moved(run: Path, folder: Path) -> list[str]:
    """The second build of a run, in another folder than the first."""
    write_build(folder / "else" / "int8-paper", dataclasses.replace(manifest(), variant="int8-paper"))
    return [str(run / "builds" / "int8"), str(folder / "else" / "int8-paper"), "--family"]


def _strange(run: Path, folder: Path) -> list[str]:
    return [str(write_build(folder / "strange", manifest("elsewhere/model", Traits("Else", 64, 256, (128, 128), (3.0, 2.0)))))]


def _two(run: Path, folder: Path) -> list[str]:
    return [str(write_build(folder / name, manifest())) for name in "ab"]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (lambda run, folder: [], "name one BUILD or more"),
        (lambda run, folder: [str(run / "builds"), "--again"], "name one BUILD or more"),
        (lambda run, folder: ["--again"], "make the cards from their builds first"),
        (lambda run, folder: [str(run / "builds" / "int8"), "--family"], "also has int8-paper, which `push` would publish"),
        (_moved, "put all of a family into one folder"),
        (_strange, "whose licence is not known here"),
        (_two, "two are of one variant"),
        (lambda run, folder: [str(run / "builds"), str(run / "builds" / "int8")], "two builds lie in folders called int8"),
    ],
)
def test_what_has_no_card_is_refused_before_anything_is_written(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: Callable[[Path, Path], list[str]],
    refusal: str,
) -> None:
    assert main(["card", *given(finished, tmp_path), "--repo", REPO, "--out", str(tmp_path / "out")]) == 2
    assert refusal in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
