"""Builds on the Hub in the app: a card before they are here, downloaded when first used, painted. Pushed by push.py itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.captions import to_caption
from ideogram_q8.commands import app
from ideogram_q8.errors import RequestError, SourceError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.quantities import byte_size
from ideogram_q8.formats.report import VariantFile
from ideogram_q8.hub.client import Unavailable
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.sources import open_source
from ideogram_q8.ui.engine.events import ByteTracker, Downloading, Event, Loading, Picture
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import fragments
from ideogram_q8.ui.parts.form import full_choices
from tests.hub.downloads import away, downloads, put, put_folder, sent_of
from tests.hub.scene import REPO, command
from tests.hub.server import Hub
from tests.publishing.example import report_of

REQUEST = Request(to_caption("a red heart on a white background"), 3, "turbo-12", 64, 64)
NAME = "int8-someone-pocket-int8"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=")]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The pocket in int8, with a report."""
    folder, source = tmp_path_factory.mktemp("build") / "int8", open_source("pocket")
    made = quantize(source, choose("int8", source.config), folder)
    report = report_of(made)
    files = tuple(VariantFile(file.path, file.size, file.sha256) for file in made.files)
    own = dataclasses.replace(report.variants[1], files=files)
    report = dataclasses.replace(report, variants=(report.variants[0], own))
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    return folder, made


@pytest.fixture
def hub(tmp_path: Path, manifest: tuple[Path, Manifest]) -> Iterator[Hub]:
    """With the build in it."""
    with downloads(tmp_path / "hub") as hub:
        result = command("push", manifest[0], "--repo", REPO)
        assert result.code == 0, result.err
        hub.sent.clear()
        yield hub


def studio_of(tmp_path: Path, *artifacts: str) -> Studio:
    return Studio("pocket", tmp_path / "outputs", tmp_path / "variants", artifacts=artifacts)


def card_of(studio: Studio, name: str = NAME) -> list[str]:
    return next(card for card, variant in full_choices(studio, 64, 64) if variant == name).splitlines()


def weights(manifest: Manifest) -> int:
    return sum(file.size for file in manifest.files)


def test_a_build_is_offered_downloaded_and_painted_with(hub: Hub, tmp_path: Path, manifest: tuple[Path, Manifest]) -> None:
    studio, size = studio_of(tmp_path, REPO), byte_size(weights(manifest[1]))
    title, form, state, fits, quality, speed = card_of(studio)
    assert (title, form, state) == ("INT8", f"from {REPO}", f"{size} · not downloaded")
    assert fits.startswith("needs ") and fits.endswith("fits")
    assert quality.startswith("45.2 dB to fp8") and speed.startswith("0.05 s per step")
    assert {sent.size for sent in hub.sent} == {
        (manifest[0] / name).stat().st_size for name in ("manifest.json", "report.json")
    }

    hub.piece, hub.pace = 500_000, 0.01
    events = list(studio.paint(NAME, REQUEST))
    kinds = [type(event) for event in events]
    assert list(dict.fromkeys(kinds))[:2] == [Downloading, Loading] and kinds[-1] is Picture
    arriving = [event for event in events if isinstance(event, Downloading)]
    here = [event.here for event in arriving]
    assert here == sorted(here) and arriving[-1].fraction == 1.0 and arriving[-1].total >= weights(manifest[1])
    assert any(event.rate > 0 and event.seconds_left for event in arriving)
    assert card_of(studio)[2] == f"{size} · downloaded"
    picture = events[-1]
    assert isinstance(picture, Picture) and picture.metadata["artifact_sha256"] == manifest[1].artifact_sha256
    before = len(hub.sent)
    assert studio_of(tmp_path, REPO).variants()[-1].location is not None
    assert not any(sent.size > 1e6 for sent in hub.sent[before:])


def test_cancelling_keeps_what_arrived(hub: Hub, tmp_path: Path, manifest: tuple[Path, Manifest]) -> None:
    studio = studio_of(tmp_path, REPO)
    hub.piece, hub.pace = 200_000, 0.05
    events = studio.paint(NAME, REQUEST)
    for event in events:
        if isinstance(event, Downloading) and event.fraction > 0.2:
            break
    assert card_of(studio)[2].startswith("downloading ")
    events.close()
    with studio._busy:  # it has ended
        hub.pace = 0.0
    assert not studio.stock.downloading and card_of(studio)[2].endswith(" % downloaded")
    assert isinstance(list(studio.paint(NAME, REQUEST))[-1], Picture)
    starts = [sent.start for file in manifest[1].files for sent in sent_of(hub, file.sha256)]
    assert len(starts) == 3 and max(starts) > 0


def test_the_app_starts_without_the_hub_and_asks_again(hub: Hub, tmp_path: Path) -> None:
    name = "pocket-int8"
    with away():
        studio = studio_of(tmp_path, REPO)
        assert card_of(studio, name) == [name, "from someone", "not downloaded · the Hub cannot be reached"]
        with pytest.raises(Unavailable, match="check the connection"):
            list(studio.paint(name, REQUEST))
        assert [card.splitlines()[0] for card, _ in full_choices(studio, 64, 64)][:2] == ["FP8", "INT8"]
    assert isinstance(list(studio.paint(name, REQUEST))[-1], Picture)
    assert card_of(studio, name)[2].endswith(" · downloaded")


def test_a_source_on_the_hub_is_offered_before_it_is_here(hub: Hub, tmp_path: Path, manifest: tuple[Path, Manifest]) -> None:
    put_folder(hub, WEIGHTS, "someone/pocket")
    given, total = open_source("pocket"), sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    hub.sent.clear()
    studio = Studio("someone/pocket", tmp_path / "outputs", tmp_path / "variants", artifacts=[REPO])
    assert (studio.traits, studio.config) == (given.traits, given.config)
    assert sum(sent.size for sent in hub.sent) < 400_000 < total
    original, build = card_of(studio, "fp8"), card_of(studio, NAME)
    assert original[2].endswith("MB · not downloaded") and original[3].endswith("MB of its source")
    assert original[4] == build[4] == fragments.UNKNOWN  # unless it is Ideogram 4

    events = list(studio.paint(NAME, REQUEST))  # without the original's transformers
    arriving = [event for event in events if isinstance(event, Downloading)]
    here = [event.here for event in arriving]
    assert here == sorted(here) and here[-1] == arriving[-1].total and len({event.total for event in arriving}) == 1
    pictures = [events[-1], list(studio.paint("int8", REQUEST))[-1]]
    assert all(isinstance(picture, Picture) for picture in pictures)
    sums = {digest for path, digest in given.record().files.items()}
    order = [sent.sha256 for sent in hub.sent if sent.sha256 in sums | {file.sha256 for file in manifest[1].files}]
    assert set(order[:2]) == {file.sha256 for file in manifest[1].files} and set(order[2:]) == sums
    assert card_of(studio, "fp8")[2].endswith("MB") and "fits" in card_of(studio, "fp8")[3]

    before = len(hub.script.seen)
    assert isinstance(list(studio.paint("fp8", REQUEST))[-1], Picture)
    assert len(hub.script.seen) == before  # it is not asked again
    metadata = [picture.metadata for picture in pictures if isinstance(picture, Picture)]
    assert {str(each["artifact_sha256"]) for each in metadata} == {manifest[1].artifact_sha256}


def test_what_ideogram_4_takes_is_known_before_it_is_here(hub: Hub, tmp_path: Path) -> None:
    folders = ("transformer", "unconditional_transformer", "text_encoder", "vae")
    files = {f"{folder}/model.safetensors": folder.encode() for folder in folders}
    put(hub, files | {"transformer/config.json": json.dumps(IDEOGRAM4.to_json()).encode()}, "someone/ideogram-4-fp8")
    studio = Studio("someone/ideogram-4-fp8", tmp_path / "outputs", tmp_path / "variants")
    cards = [card.splitlines() for card, _ in full_choices(studio, 1024, 1024)]
    assert [card[2] for card in cards] == [
        "0.0 MB · not downloaded",
        *(f"≈ {size} GB · not built yet" for size in ("19.80", "20.28", "11.29")),
    ]
    assert all(card[4].startswith("needs ") and " GB · " in card[4] for card in cards)


def test_a_gate_and_what_is_not_there_are_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.state.repositories["model", REPO].gated = "manual"
    with pytest.raises(SourceError, match="someone/none on the Hugging Face Hub does not exist or is private"):
        studio_of(tmp_path, "someone/none")
    hub.state.accounts.clear()
    monkeypatch.delenv("HF_TOKEN")
    studio = studio_of(tmp_path, REPO)
    assert card_of(studio, "pocket-int8")[2] == "not downloaded · gated: its terms are to be accepted"
    with pytest.raises(Unavailable, match=f"accept its terms at https://huggingface.co/{REPO} and log in with `hf auth login`"):
        list(studio.paint("pocket-int8", REQUEST))


def test_the_app_takes_hub_ids(hub: Hub, tmp_path: Path) -> None:
    options = ["--artifact", f"{REPO}@main", "--outputs", str(tmp_path / "outputs"), "--device", "cpu", "--variant", NAME]
    studio = app.open_studio(app.parse(options))
    assert studio.source == "pocket" and card_of(studio)[2].endswith("not downloaded")
    with away():
        assert app.open_studio(app.parse([*options[:-1], "fp8"])).source == "pocket"


def test_a_build_of_another_source_is_refused(hub: Hub, tmp_path: Path, built: dict[str, Path]) -> None:
    put(hub, {path.name: path.read_bytes() for path in built["int8"].iterdir()}, "someone/other")
    with pytest.raises(RequestError, match="someone/other is of other dimensions than pocket; leave out one of them"):
        studio_of(tmp_path, "someone/other")


def test_a_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    clock = iter([0.0, 1.0, 2.0, 20.0, 21.0])
    monkeypatch.setattr("ideogram_q8.ui.engine.events.time.monotonic", lambda: next(clock))
    tracker = ByteTracker("int8", events.append)
    for here in (1000, 1100, 1200, 1200, 1300):  # 1000 were here before
        tracker(here, 2000)
    assert [(event.rate, event.seconds_left) for event in events if isinstance(event, Downloading)] == [
        (0.0, None),
        (100.0, 9.0),
        (100.0, 8.0),
        (0.0, None),
        (100.0, 7.0),
    ]
