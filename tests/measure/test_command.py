"""`evaluate`: from places to a report, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8 import __main__ as command_line
from ideogram_q8.captions import suite
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.report import Report
from ideogram_q8.measure import judging, measurement
from ideogram_q8.measure.places import open_places
from tests.measure import example
from tests.synthetic import write_source

COUNT = 3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted and judged without a model; what is opened is real."""

    def paint(order):
        name = "fp8" if order.reference is None else "good"
        return example.paint(measurement.dataclasses.replace(order, location=name))

    monkeypatch.setattr(measurement, "paint", paint)
    monkeypatch.setattr(judging.Judges, "made", {"cpu": example.JUDGES}.__getitem__)  # never on the card
    monkeypatch.setattr(suite, "get", lambda name: example.suite(COUNT))


def evaluate(*arguments: object) -> int:
    return command_line.main(["evaluate", *map(str, arguments)])


def test_shards_and_merge_give_the_report_of_one_run(
    quick: None, source, built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--reference", source.folder, "--candidate", built["int8"], f"other={built['q8_0']}", "--preset", "turbo-12")
    assert evaluate(*common, "--count", COUNT, "--out", tmp_path / "one") == 0
    assert "not measured: clip_score: not here" in capsys.readouterr().out
    for i in (1, 2):
        assert evaluate(*common, "--out", tmp_path / "two", "--shard", f"{i}/2") == 0
    assert evaluate("merge", tmp_path / "two", "--out", tmp_path / "merged") == 0
    one, merged = (
        Report.from_json((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in ("one", "merged")
    )
    assert [variant.name for variant in one.variants] == ["fp8", "int8", "other"]
    assert [v.values for v in merged.variants] == [v.values for v in one.variants] and merged.comparisons == one.comparisons
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {"report.json", "report.html", "sheets"}


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("--candidate", "pocket", "--out", "x"), "--reference is missing"),
        (("--reference", "pocket", "--out", "x"), "--candidate is missing"),
        (("--reference", "pocket", "--candidate", "b=pocket"), "--out is missing"),
        (("--reference", "pocket", "--candidate", "b=pocket", "--out", "x", "--shard", "3/2"), "the shard is 3/2"),
        (("--reference", "pocket", "--candidate", "b=pocket", "--out", "x", "--suite", "art"), "got the suite 'art', expected"),
        (("--reference", "pocket", "--candidate", "b=pocket", "--out", "x", "--count", "0"), "--count is 0"),
        (("--reference", "pocket", "--candidate", "pocket", "--out", "x"), "two variants are called 'fp8'"),
        (("--reference", "pocket", "--candidate", "B=pocket", "--out", "x"), "the variant's name is 'B'"),
        (("--reference", "pocket", "--candidate", "b=pocket", "--out", "x", "--size", "100x100"), "100"),
        (("merge", "/nonexistent", "--out", "x"), "holds no measurements"),
    ],
)
def test_refusals(arguments: tuple[str, ...], refusal: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*arguments) == 2
    assert refusal in capsys.readouterr().err
    assert not Path("x").exists()


def test_builds_of_other_weights_and_other_models_are_not_compared(source, built: dict[str, Path], tmp_path: Path) -> None:
    other = write_source(tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match="int8 was made from other weights than fp8"):
        open_places(str(other), [str(built["int8"])])
    with pytest.raises(RequestError, match="fp8 is a Pocket|fp8 is a Tiny"):
        open_places(f"b={source.folder}", ["pocket"])


def test_a_place_has_the_identity_of_its_files(built: dict[str, Path]) -> None:
    from ideogram_q8.builds import open_artifact

    for scheme, folder in built.items():
        (place,) = open_places(str(folder), [])
        artifact = open_artifact(folder)
        assert place.artifact_sha256 == artifact.manifest.artifact_sha256
        assert (place.name, place.location) == (artifact.variant, str(folder)), scheme
