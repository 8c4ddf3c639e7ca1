"""Builds on the Hub: told of before they are here, from files of strangers; downloaded when they are wanted. A Hub stands in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from ideogram_q8.builds import Artifact, open_artifact, published
from ideogram_q8.builds.inspection import describe
from ideogram_q8.builds.opening import open_weights
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.hub.client import Place, Unavailable
from tests.hub.downloads import REPO, away, downloads, put, put_folder
from tests.hub.server import Hub

PLACE = Place(REPO)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with downloads(tmp_path) as hub:
        yield hub


@pytest.fixture
def manifest(built: dict[str, Path]) -> Manifest:
    return Manifest.from_json((built["int8"] / "manifest.json").read_text(encoding="utf-8"))


def test_a_build_is_told_of_before_its_weights_are_here(hub: Hub, built: dict[str, Path], manifest: Manifest) -> None:
    put_folder(hub, built["int8"])
    put(hub, {"report.json": b"{}", "samples/star.png": b"picture", "README.md": b"card"})
    (build,) = published.find(PLACE)
    assert build.manifest == manifest and (build.folder / "report.json").is_file()
    assert {file.name for file in build.folder.rglob("*")} == {"manifest.json", "report.json"}
    weights = sum(file.size for file in manifest.files)
    assert build.missing_bytes == weights + len(b"card")
    assert sum(sent.size for sent in hub.sent) < weights / 2


def test_its_weights_are_those_that_were_published(hub: Hub, built: dict[str, Path], manifest: Manifest) -> None:
    put_folder(hub, built["int8"])
    put(hub, {"samples/star.png": b"not needed", "LICENSE": b"terms"})
    opened = open_weights(REPO)
    assert isinstance(opened, Artifact)
    assert open_artifact(opened.folder, verify=True).manifest == manifest
    assert (opened.folder / "LICENSE").read_bytes() == b"terms" and not (opened.folder / "samples").exists()
    assert published.find(PLACE)[0].missing_bytes == 0


def test_of_several_builds_one_is_named(hub: Hub, built: dict[str, Path]) -> None:
    for name in ("int8", "q8_0"):
        put_folder(hub, built[name], prefix=f"{name}/")
    assert [build.manifest.variant for build in published.find(PLACE)] == ["int8", "q8_0"]
    with pytest.raises(SourceError, match=f"holds several builds; name one of {REPO}/int8, {REPO}/q8_0"):
        open_weights(REPO)
    with pytest.raises(SourceError, match=f"no build in a folder q4_k; expected {REPO}/int8"):
        open_weights(f"{REPO}/q4_k")
    opened = open_weights(f"{REPO}/q8_0@main")
    assert isinstance(opened, Artifact) and opened.variant == "q8_0"
    assert not (opened.folder.parent / "int8" / "ideogram4-int8.safetensors").exists()


def test_a_checkpoint_is_none(hub: Hub, source) -> None:
    put_folder(hub, source.folder)
    assert published.find_one(PLACE) is None
    assert open_weights(REPO).traits == source.traits


def test_a_build_is_no_checkpoint(hub: Hub, built: dict[str, Path]) -> None:
    put_folder(hub, built["int8"])
    from ideogram_q8.sources import open_source

    with pytest.raises(SourceError, match="holds a build and no checkpoint; name what it was made from"):
        open_source(REPO)


def test_inspect_tells_without_downloading(hub: Hub, built: dict[str, Path], manifest: Manifest) -> None:
    put_folder(hub, built["int8"])
    found = describe(REPO)
    weights = sum(file.size for file in manifest.files)
    assert (found["kind"], found["repository"], found["bytes_to_download"]) == ("artifact", REPO, weights)
    assert found["artifact_sha256"] == manifest.artifact_sha256
    assert sum(sent.size for sent in hub.sent) < weights


def test_without_the_hub_the_cache_tells(hub: Hub, built: dict[str, Path]) -> None:
    put_folder(hub, built["int8"])
    with away(), pytest.raises(Unavailable, match=f"there is no folder {REPO} here, .* cannot be reached") as refused:
        published.find(PLACE)
    assert refused.value.brief == "the Hub cannot be reached"
    (known,) = published.find(PLACE)
    with away():
        (build,) = published.find(PLACE)
        assert build.manifest == known.manifest and build.missing_bytes == sum(file.size for file in build.manifest.files)
        with pytest.raises(Unavailable, match="cannot be reached"):
            build.download()
    folder = build.download()  # it is back
    with away():
        assert published.find(PLACE)[0].download() == folder
        opened = open_weights(REPO)
    assert isinstance(opened, Artifact) and opened.folder == folder


def test_a_gate_is_told(hub: Hub, built: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    put_folder(hub, built["int8"])
    hub.state.repositories["model", REPO].gated = "manual"
    hub.state.accounts.clear()
    with pytest.raises(Unavailable, match="is gated: accept its terms at https://huggingface.co/someone/build") as refused:
        published.find(PLACE)
    assert refused.value.brief == "gated: its terms are to be accepted"


def test_a_manifest_that_is_too_long_is_not_downloaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "MAX_BYTES", 1000)
    put(hub, {"manifest.json": b"x" * 1001})
    with pytest.raises(ArtifactError, match=f"{REPO}: manifest.json has 1001 bytes; expected 1000 at most of a manifest"):
        published.find(PLACE)
    assert not hub.sent


def test_a_report_that_is_too_long_is_left_out(hub: Hub, built: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put_folder(hub, built["int8"])
    monkeypatch.setattr(published, "MAX_BYTES", (built["int8"] / "manifest.json").stat().st_size)
    put(hub, {"report.json": b"x" * (published.MAX_BYTES + 1)})
    (build,) = published.find(PLACE)
    assert not (build.folder / "report.json").exists()


def test_a_manifest_of_a_stranger_is_refused_by_name(hub: Hub, built: dict[str, Path], manifest: Manifest) -> None:
    first = manifest.files[0]

    def with_file(**changes: object) -> bytes:
        file = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
        tensors = {file.path if path == first.path else path: found for path, found in manifest.tensors.items()}
        return dataclasses.replace(manifest, files=(file, *manifest.files[1:]), tensors=tensors).to_json().encode()

    bad = {
        "not one JSON value": b"{",
        "does not stay inside the artifact's folder": with_file(path="../../../outside.safetensors"),
        "which the repository does not hold": with_file(path="other.safetensors"),
        f"in the repository, it says {first.size + 1} and": with_file(size=first.size + 1),
        f"in the repository, it says {first.size} and {'0' * 64}": with_file(sha256="0" * 64),
        "expected a short name": dataclasses.replace(manifest, variant="x" * 61).to_json().encode(),
        "recipe": dataclasses.replace(manifest, recipe={}).to_json().encode(),
        "config.json": dataclasses.replace(manifest, transformer={"num_layers": -1}).to_json().encode(),
    }
    put_folder(hub, built["int8"])
    for reason, content in bad.items():
        put(hub, {"manifest.json": content})
        with pytest.raises(ArtifactError, match=f"^{REPO} on the Hugging Face Hub: manifest.json: ") as refused:
            published.find(PLACE)
        assert reason in str(refused.value) or reason in ("not one JSON value", "config.json"), refused.value
        assert hub.token not in str(refused.value)
