"""The ablation: which recipes, that each is measured on its own artifact, and that page and chart say what was found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.captions.suite import get
from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.recipes import statistics as stats_file
from ideogram_q8.sources import open_source
from ideogram_q8.studies import ablation as module
from ideogram_q8.studies.ablation import Ablation, ablate, counts
from ideogram_q8.studies.ablation_page import PUBLISHED, chart, markdown
from tests.policies.example import statistics_of
from tests.synthetic import TINY, write_source

NAMES = [
    "naive",
    "smoothed",
    "protected-1",
    "protected-8",
    "paper-1",
    "paper-8",
    "convrot",
    "auto",
    "auto-paper-1",
    "auto-paper-8",
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """An ablation of a synthetic source; instead of paintings, noise that grows with what is quantized."""
    source = open_source(write_source(tmp_path_factory.mktemp("source")))

    def paint(job, place):
        generator = np.random.default_rng(0)
        spread = 0
        if place is not source:
            artifact = open_artifact(place)
            spread = 1 + sum(plan.scheme == "w8a8" for part in artifact.recipe.parts.values() for plan in part.layers)
        noise = (
            generator.normal(0, spread, (len(job.suite.cases), 32, 32, 3))
            if spread
            else np.zeros((len(job.suite.cases), 32, 32, 3))
        )
        return [Image.fromarray((128 + picture).clip(0, 255).astype(np.uint8)) for picture in noise]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.AblationJob, "paint", paint)
        statistics = statistics_of(source, {"layers.0.feed_forward.w2": 300.0})
        return ablate(source, statistics, "a" * 64, get("pocket").first(3), "turbo-12")


def test_the_published_numbers_of_protected_linears():
    assert counts(IDEOGRAM4) == (8, 17)
    assert counts(TINY) == (1, 8)
    assert counts(dataclasses.replace(TINY, num_layers=5)) == (1, 2, 8, 17)


def test_every_recipe_has_a_row(found):
    assert [row.name for row in found.rows] == NAMES
    assert len({row.artifact_sha256 for row in found.rows}) == len(NAMES)
    assert {"naive", "smoothed", "paper-8"} <= set(PUBLISHED)


def test_budgets_hold_and_errors_fall_where_they_must(found):
    rows = {row.name: row for row in found.rows}
    header = 20_000
    for name in NAMES:
        if name.startswith("auto"):
            other = rows["naive" if name == "auto" else name.removeprefix("auto-")]
            assert rows[name].size <= other.size + header
            assert rows[name].noise.mean >= other.noise.mean
    assert rows["smoothed"].noise.worst > rows["naive"].noise.worst
    assert rows["smoothed"].size - rows["naive"].size < header
    assert rows["paper-8"].noise.exact > rows["paper-1"].noise.exact > rows["smoothed"].noise.exact


def test_gains_are_over_the_first_row_picture_by_picture(found):
    first, *others = found.rows
    assert (first.gain.value, first.gain.interval) == (0, (0, 0))
    for row in others:
        assert row.gain.value == pytest.approx(row.psnr.value - first.psnr.value, abs=1e-5)


def test_every_measured_linear_is_in_the_file(found):
    for row in found.rows:
        values = [value for branch in row.snr_db.values() for value in branch.values()]
        assert len(values) == row.noise.linears == 2 * 19
        assert sum(value is None for value in values) == row.noise.exact
        assert min(value for value in values if value is not None) == row.noise.worst
        assert sum(noise.linears for noise in row.kinds.values()) == 2 * 12


def test_json_and_back(found):
    assert Ablation.from_json(found.to_json()) == found
    with pytest.raises(ArtifactError, match="unknown key 'speed'"):
        Ablation.from_json(found.to_json().replace('"preset"', '"speed"', 1))


def test_the_page_has_every_recipe_and_names_the_published_figures_as_anothers(found):
    page = markdown(found)
    for row in found.rows:
        assert page.count(f"| {row.name} |") == 2
    assert "| 14.30 |" in page and "| 16.01 |" in page
    assert "Another model and another metric" in page and "arXiv 2606.12280" in page


def test_the_page_says_what_is_in_sample_and_what_is_another_share(found):
    page = markdown(found)
    assert "their SNR is in-sample and flatters them" in page
    assert (
        "of Ideogram 4's 170 a branch that see tokens, 8 are 5 %; of the 10 here, 8 are 80 %. The same share would be 1."
        in page
    )


def test_the_command_replaces_only_what_it_may(found, tmp_path, capsys, monkeypatch):
    source = open_source(write_source(tmp_path / "source"))
    stats_file.write(tmp_path / "stats.safetensors", statistics_of(source, {}))
    measured = []
    monkeypatch.setattr(module, "ablate", lambda *_, **__: measured.append(1) or found)
    arguments = [
        "ablate",
        str(tmp_path / "source"),
        "--stats",
        str(tmp_path / "stats.safetensors"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ablation.json", "ablation.md", "ablation.png"]
    assert Ablation.from_json((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8")) == found
    capsys.readouterr()
    assert main(arguments) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert len(measured) == 2
    (tmp_path / "out" / "notes.txt").touch()
    assert main([*arguments, "--overwrite"]) == 2
    assert (tmp_path / "out" / "notes.txt").exists()


def test_the_chart_has_a_mark_for_every_row(found):
    image = chart(found)
    assert image.mode == "RGB" and image.width == 1600
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(13, 116, 95), (178, 92, 12), (37, 86, 181)} <= colours
    taller = chart(dataclasses.replace(found, rows=found.rows * 2))
    assert taller.height > image.height
