"""Builds that someone has published on the Hub, as `publish/push.py` lays them out: known before they are here, by their small files.

    manifest.json          which weight files there are, with size and sha256; beside it report.json: what was measured of them
    q4_k_m/manifest.json   or in folders, where a repository holds several builds

What is told of a build is read from files of strangers: nothing of it is believed that the repository's own list contradicts, and the
weights are compared with the manifest's sha256 as they arrive (`checkpoint.transfer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.manifest import FILE_NAME, FileRecord, Manifest
from ideogram_q8.formats.report import FILE_NAME as REPORT
from ideogram_q8.hub import client as hub
from ideogram_q8.hub.client import OnProgress, Place, Snapshot
from ideogram_q8.model.architecture import TransformerConfig
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.recipes import Recipe

MAX_BYTES = 64 << 20
"""Of a small file: what is larger is not downloaded."""
_MOST_BUILDS, _MOST_CHARACTERS = 64, 60
_PAPERS = ("LICENSE", "LICENSE.md", "Notice", "NOTICE", "README.md")
"""What goes with a build's weights, where the repository has it."""


@dataclass(frozen=True)
class Published:
    """A build in a repository.

    Attributes:
        folder: where its manifest.json lies on this disk, and its weights once they are here.
        snapshot: what the repository holds; None: the Hub cannot be reached.
    """

    place: Place
    folder: Path
    manifest: Manifest
    snapshot: Snapshot | None

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be downloaded until it can be loaded."""
        if self.snapshot is not None:
            return self.snapshot.missing_bytes(_wanted(self.snapshot, self.place.folder, self.manifest))
        return sum(record.size for record in self.manifest.files if not (self.folder / record.path).is_file())

    @property
    def total_bytes(self) -> int:
        """Size of all that it needs to be loaded, as far as it is known."""
        if self.snapshot is not None:
            return self.snapshot.bytes_of(_wanted(self.snapshot, self.place.folder, self.manifest))
        return sum(record.size for record in self.manifest.files)

    def download(self, on_progress: OnProgress | None = None) -> Path:
        """Downloads the build and returns its folder; files that are here already are not fetched again, interrupted ones go on.

        Raises:
            SourceError, ResourceError: as `hub.fetch`; or it is not whole here, and the Hub cannot be reached.
        """
        if not self.missing_bytes:
            return self.folder
        snapshot = self.snapshot or hub.look(self.place)
        hub.fetch(snapshot, _wanted(snapshot, self.place.folder, self.manifest), on_progress)
        return self.folder


def find(place: Place) -> list[Published]:
    """The builds in a repository, or the one in the folder that `place` names; none where it holds a checkpoint.

    Fetches their manifests and reports. Without the Hub it tells what the cache has.

    Raises:
        Unavailable: the Hub cannot be reached and the cache has nothing, or it wants a login.
        SourceError: there is no such repository, revision or folder in it.
        ArtifactError: a manifest is not valid, or not of the files that the repository holds.
    """
    try:
        snapshot = hub.look(place)
    except hub.Unavailable:
        root = hub.cached(place)
        if root is None:
            raise
        found = [_read(place, path.relative_to(root).as_posix(), root, None) for path in _manifests_in(root)]
    else:
        found = [_read(place, path, _small_files(snapshot, path), snapshot) for path in _manifests_of(snapshot)]
    chosen = [build for build in found if place.folder in ("", build.place.folder)]
    if found and not chosen:
        names = ", ".join(f"{place.repository}/{build.place.folder}".rstrip("/") for build in found)
        raise SourceError(f"{place} on the Hugging Face Hub has no build in a folder {place.folder}; expected {names}")
    return chosen


def find_one(place: Place) -> Published | None:
    """The build that `place` names; None where it is a checkpoint.

    Raises:
        SourceError, ArtifactError: as `find`; or the repository holds several builds.
    """
    found = find(place)
    if len(found) > 1:
        names = ", ".join(f"{place.repository}/{build.place.folder}" for build in found)
        raise SourceError(f"{place} on the Hugging Face Hub holds several builds; name one of {names}")
    return found[0] if found else None


def _manifests_of(snapshot: Snapshot) -> list[str]:
    if FILE_NAME in snapshot.files:
        return [FILE_NAME]
    found = sorted(path for path in snapshot.files if path.endswith(f"/{FILE_NAME}") and path.count("/") == 1)
    return _not_too_many(found, snapshot.place)


def _manifests_in(root: Path) -> list[Path]:
    return [root / FILE_NAME] if (root / FILE_NAME).is_file() else sorted(root.glob(f"*/{FILE_NAME}"))[:_MOST_BUILDS]


def _not_too_many(found: list[str], place: Place) -> list[str]:
    if len(found) > _MOST_BUILDS:
        raise ArtifactError(
            f"{place} on the Hugging Face Hub has {len(found)} folders with {FILE_NAME}, expected {_MOST_BUILDS} at most"
        )
    return found


def _small_files(snapshot: Snapshot, path: str) -> Path:
    """Brings a manifest and the report beside it; returns the snapshot's folder."""
    manifest, report = snapshot.files[path], snapshot.files.get(path.removesuffix(FILE_NAME) + REPORT)
    if manifest.size > MAX_BYTES:
        raise ArtifactError(f"{snapshot.place}: {path} has {manifest.size} bytes; expected {MAX_BYTES} at most of a manifest")
    wanted = [path] if report is None or report.size > MAX_BYTES else [path, report.path]
    return hub.fetch(snapshot, wanted, hub.unseen)


def _read(place: Place, path: str, root: Path, snapshot: Snapshot | None) -> Published:
    """The build of the manifest `path`. Raises ArtifactError, which names the repository."""
    folder = path.removesuffix(FILE_NAME).rstrip("/")
    try:
        manifest = read_manifest(root / folder)
        recipe = Recipe.from_value(manifest.recipe)
        recipe.check(_config(manifest, recipe))
        if not (manifest.variant.isprintable() and 0 < len(manifest.variant) <= _MOST_CHARACTERS):
            raise ArtifactError(f"variant is {manifest.variant[:_MOST_CHARACTERS]!r}, expected a short name")
        if snapshot is not None:
            for record in manifest.files:
                _check(record, folder, snapshot)
    except (ArtifactError, SourceError) as error:
        raise ArtifactError(f"{place} on the Hugging Face Hub: {path}: {error}") from None
    return Published(dataclasses.replace(place, folder=folder), root / folder, manifest, snapshot)


def _config(manifest: Manifest, recipe: Recipe) -> TransformerConfig | TextEncoderConfig:
    kind = TextEncoderConfig if "text_encoder" in recipe.parts else TransformerConfig
    return kind.from_json(manifest.transformer)


def _check(record: FileRecord, folder: str, snapshot: Snapshot) -> None:
    """A weight file, against what the repository holds. Raises ArtifactError."""
    held = snapshot.files.get(_inside(folder, record.path))
    if held is None:
        raise ArtifactError(
            f"it lists {record.path}, which the repository does not hold; whoever published it must push it again"
        )
    if (held.size, held.sha256) != (record.size, record.sha256):
        raise ArtifactError(
            f"{record.path} has {held.size} bytes and sha256 {held.sha256} in the repository, it says {record.size} and {record.sha256}; "
            "whoever published it must push it again"
        )


def _wanted(snapshot: Snapshot, folder: str, manifest: Manifest) -> list[str]:
    """What a build needs to be loaded, and the papers that go with it, small enough."""
    weights = [_inside(folder, record.path) for record in manifest.files]
    return [
        *weights,
        *(path for path in _beside(folder, weights) if path in snapshot.files and snapshot.files[path].size <= MAX_BYTES),
    ]


def _beside(folder: str, weights: list[str]) -> Iterator[str]:
    """The small files, wherever they may be: papers, and the config.json of each folder of weights."""
    yield from dict.fromkeys([*_PAPERS, *(_inside(folder, name) for name in (*_PAPERS, FILE_NAME, REPORT))])
    yield from sorted({f"{path.rpartition('/')[0]}/config.json" for path in weights if "/" in path})


def _inside(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path
