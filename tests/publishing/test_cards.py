"""From a finished evaluation to cards, pictures and folders that `push.py` takes."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from ideogram_q8.captions.suite import CaptionSuite
from ideogram_q8.commands.evaluate import publish
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.formats.report import Report, VariantFile
from ideogram_q8.measure import measurement
from ideogram_q8.measure.compare import gather
from ideogram_q8.measure.measurement import EvaluationJob, measure
from ideogram_q8.measure.pages import showcase
from ideogram_q8.measure.places import MeasuredVariant
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples
from ideogram_q8.publishing.cards.cards import main, rendered
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
    """A folder as `pocket_report --out` leaves it, with one build."""
    run = tmp_path_factory.mktemp("run")
    build = manifest()
    write_build(run / "builds" / "int8", build)
    files = tuple(VariantFile(file.path, file.size, file.sha256) for file in build.files)
    places = [place("fp8"), MeasuredVariant("int8", "somewhere/good", TRAITS, 4, files, None)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "paint", paint)
        measure(EvaluationJob(places, captions(), "turbo-12", (32, 32), "cpu", "float32", run / "report"), JUDGES)
    publish([run / "report"], run / "report")
    return run


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cards")
    assert main([str(finished), "--out", str(out)]) == 0
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
    assert main([str(finished), "--out", str(tmp_path)]) == 0
    assert rendered(tmp_path) == rendered(made)
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
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "has no build with a manifest.json" in capsys.readouterr().err
