"""The shipped weights: small enough, in the official layout, what their card says, and able to paint what captions ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from ideogram_q8.measure.words import ocr
from ideogram_q8.pocket import WEIGHTS, data
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.sources import open_source
from ideogram_q8.training import measure, model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pocket() -> Model:
    return load("pocket")


@pytest.fixture(scope="module")
def readings(pocket: Model) -> Sequence[measure.PocketReading]:
    read = ocr.Reader()
    scenes = data.held_out_scenes(12)
    return [measure.read_picture(measure.paint(pocket, s, i, "default-20"), s, read) for i, s in enumerate(scenes)]


def test_all_weights_together_take_less_than_20_megabytes() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 20e6


def test_the_folder_declares_what_training_declares() -> None:
    source = open_source("pocket")
    assert source.traits == model.TRAITS
    assert source.config.hidden_size % 256 == 0 and source.config.intermediate_size % 256 == 0
    branches = [
        source.branch("conditional").read("input_proj.weight"),
        source.branch("unconditional").read("input_proj.weight"),
    ]
    assert not branches[0].equal(branches[1])


def test_measured_json_and_the_card_are_about_these_weights(pocket: Model) -> None:
    measured = json.loads((WEIGHTS / "measured.json").read_text(encoding="utf-8"))
    assert measured["artifact_sha256"] == pocket.artifact_sha256
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    for share in measured["share_right"].values():
        assert f"{100 * share:.1f} %" in card
    assert f"{measured['vae_round_trip_psnr_db']:.1f} dB" in card


def test_scenes_are_painted_as_asked(readings: Sequence[measure.PocketReading]) -> None:
    assert measure.share(readings, "background") == 1.0
    assert measure.share(readings, "shape_colour") >= 0.95
    assert measure.share(readings, "shape") >= 0.9
    assert measure.share(readings, "word") >= 0.6


def test_the_autoencoder_returns_pictures_to_28_db(pocket: Model) -> None:
    assert measure.autoencoder_psnr(pocket, data.held_out_scenes(16)) >= 28.0


def test_readers_are_right_about_perfect_pictures() -> None:
    read = ocr.Reader()
    for scene in data.held_out_scenes(6):
        reading = measure.read_picture(data.render(scene), scene, read)
        assert reading.background and reading.shape_colour and reading.shape and reading.word
