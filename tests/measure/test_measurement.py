"""A run that is stopped, split or repeated measures the same, and never what it has measured before."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, RequestError
from ideogram_q8.formats import report
from ideogram_q8.formats.report import Report
from ideogram_q8.measure import measurement
from ideogram_q8.measure.compare import assemble, gather
from ideogram_q8.measure.measurement import EvaluationJob, Shard, Share, measure
from tests.measure import example
from tests.measure.example import JUDGES, NOISE, paint, place, suite

COUNT = 6


def job(out: Path, shard: Shard | None = None) -> EvaluationJob:
    return example.job(out, suite(COUNT), shard)


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What had to be painted so far."""
    names: list[str] = []
    monkeypatch.setattr(measurement, "paint", partial(paint, painted=names))
    return names


def result(*folders: Path) -> Report:
    return dataclasses.replace(assemble(gather(folders)), created="2026-08-31T12:00:00Z")


def test_a_run_is_measured_once(tmp_path: Path, painted: list[str]) -> None:
    measure(job(tmp_path), JUDGES)
    assert len(painted) == len(NOISE) * COUNT and painted[0] == "fp8: signs--000"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    measure(job(tmp_path), JUDGES)
    assert len(painted) == len(NOISE) * COUNT
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path: Path, painted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measure(job(tmp_path / "whole"), JUDGES)
    painted.clear()

    def dies(order):
        if "bad" in order.location:
            raise KeyboardInterrupt
        return paint(order, painted)

    with monkeypatch.context() as patch:
        patch.setattr(measurement, "paint", dies)
        with pytest.raises(KeyboardInterrupt):
            measure(job(tmp_path / "stopped"), JUDGES)
    with pytest.raises(RequestError, match="bad has 6 captions not measured yet"):
        gather([tmp_path / "stopped"])
    measure(job(tmp_path / "stopped"), JUDGES)
    assert len(painted) == len(NOISE) * COUNT
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


@pytest.mark.parametrize("name", ["signs--000.png", "signs--000.json"])
def test_a_picture_that_is_not_whole_is_painted_again(tmp_path: Path, painted: list[str], name: str) -> None:
    measure(job(tmp_path), JUDGES)
    before = result(tmp_path)
    painted.clear()
    (file,) = (tmp_path / "pictures").glob(f"good-*/{name}")
    file.write_bytes(file.read_bytes()[:-20])
    measure(job(tmp_path), JUDGES)
    assert painted == ["good: signs--000"]
    assert result(tmp_path) == before


@pytest.mark.parametrize("one_folder", [True, False])
def test_shards_make_the_same_report_as_one_process(tmp_path: Path, painted: list[str], one_folder: bool) -> None:
    measure(job(tmp_path / "whole"), JUDGES)
    folders = [tmp_path / ("shards" if one_folder else f"shard-{i}") for i in (1, 2, 3)]
    for i, folder in enumerate(folders, 1):
        measure(job(folder, shard=Shard(i, 3)), JUDGES)
    assert len(painted) == 2 * len(NOISE) * COUNT
    assert result(*dict.fromkeys(folders)) == result(tmp_path / "whole")


def test_a_missing_or_repeated_shard_is_noticed(tmp_path: Path) -> None:
    for i in (1, 2):
        measure(job(tmp_path / str(i), shard=Shard(i, 2)), JUDGES)
    with pytest.raises(RequestError, match="fp8 has 3 captions not measured yet and 0 measured twice, of 6"):
        gather([tmp_path / "1"])
    with pytest.raises(RequestError, match="0 captions not measured yet and 3 measured twice"):
        gather([tmp_path / "1", tmp_path / "2", tmp_path / "2"])
    with pytest.raises(RequestError, match="holds no measurements"):
        gather([tmp_path])


def test_another_run_is_not_merged(tmp_path: Path) -> None:
    measure(job(tmp_path / "a", shard=Shard(1, 2)), JUDGES)
    measure(dataclasses.replace(job(tmp_path / "b", shard=Shard(2, 2)), preset="default-20"), JUDGES)
    with pytest.raises(RequestError, match="is of another run than .*another settings"):
        gather([tmp_path / "a", tmp_path / "b"])


def test_times_of_several_machines_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(job(tmp_path, shard=Shard(1, 2)), JUDGES)
    here = measurement.hardware("cpu")
    monkeypatch.setattr(measurement, "hardware", lambda _: dataclasses.replace(here, processor="another"))
    measure(job(tmp_path, shard=Shard(2, 2)), JUDGES)
    figures = result(tmp_path).variants[1].figures
    assert figures["seconds_per_step"] == report.NotMeasured("shards ran on different machines")
    assert isinstance(figures["psnr"], report.Measured)


def key_of(**changes: object) -> str:
    changed: EvaluationJob = dataclasses.replace(job(Path("out")), **changes)
    return changed.key(changed.places[0])


def test_pictures_are_known_by_all_that_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        key_of(),
        key_of(preset="default-20"),
        key_of(size=(64, 32)),
        key_of(dtype="bfloat16"),
        key_of(device="cuda"),
        key_of(places=[place("other")]),
    }
    monkeypatch.setattr(measurement, "TOOL_VERSION", "another")
    assert len(keys | {key_of()}) == 7
    assert key_of() == key_of(suite=suite(3)) == key_of(shard=Shard(2, 3))


def test_only_so_many_ways_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement.latents, "MOST_BYTES", 5 * measurement.latents.way_bytes(12, 4, 4))
    measure(job(tmp_path), JUDGES)
    assert [item.way is not None for item in job(tmp_path).order(1).items] == [True] * 5 + [False]
    figure = result(tmp_path).variants[1].figures["velocity_snr"]
    assert isinstance(figure, report.Measured) and figure.n == 5


def test_a_share_survives_and_says_what_is_wrong(tmp_path: Path) -> None:
    measure(job(tmp_path), JUDGES)
    file = tmp_path / "measured" / "01-good-1-of-1.json"
    share = Share.from_json(file.read_text(encoding="utf-8"), file.name)
    assert Share.from_json(share.to_json(), "x") == share
    values = json.loads(share.to_json()) | {"format_version": 99}
    with pytest.raises(ArtifactError, match=r"x: format_version is 99, expected 1; measure again"):
        Share.from_json(json.dumps(values), "x")
    del values["format_version"]
    with pytest.raises(ArtifactError, match="x: key 'format_version' is missing"):
        Share.from_json(json.dumps(values), "x")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda v: v.update(name="../x"), r"the variant's name is '\.\./x'"),
        (lambda v: v["pictures"][0].update(picture="../../x.png"), r"the picture is '\.\./\.\./x\.png'"),
        (lambda v: v["pictures"][0].update(picture="/etc/x.png"), "the picture is '/etc/x.png'"),
    ],
)
def test_a_share_from_elsewhere_stays_in_its_folder(tmp_path: Path, change, refusal: str) -> None:
    measure(job(tmp_path), JUDGES)
    file = tmp_path / "measured" / "01-good-1-of-1.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    change(values)
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(IdeogramQ8Error, match=refusal):
        gather([tmp_path])


@pytest.mark.parametrize("text", ["1", "0/2", "3/2", "a/2", "1/", "1/2/3", "-1/2"])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected I/N"):
        Shard.parse(text)


def test_every_caption_is_in_one_shard() -> None:
    for position in range(10):
        assert sum(Shard(i, 3).takes(position) for i in (1, 2, 3)) == 1
