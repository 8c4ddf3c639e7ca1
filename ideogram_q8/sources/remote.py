"""A checkpoint on the Hub before its weights are here: what its small files and the Hub's own list tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.formats.manifest import SourceRecord
from ideogram_q8.hub import client as hub
from ideogram_q8.hub.client import NEEDED, OnProgress, RemoteFile, Snapshot
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, Branch, Traits, TransformerConfig
from ideogram_q8.sources import dimensions
from ideogram_q8.sources.source import POCKET, read_traits

_CONFIG = "transformer/config.json"
_SMALL = ("traits.json", _CONFIG)


@dataclass(frozen=True)
class RemoteSource:
    """A `Source` on the Hub, as far as its listing and small files tell."""

    snapshot: Snapshot
    traits: Traits
    config: TransformerConfig

    @property
    def location(self) -> str:
        return self.snapshot.place.repository

    @property
    def folder(self) -> Path:
        """Where it will be."""
        return self.snapshot.folder

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The transformers that it holds."""
        found = {file.path.partition("/")[0] for file in self._weights()}
        return tuple(branch for branch in BRANCHES if COMPONENT_FOLDERS[branch] in found)

    @property
    def weight_bytes(self) -> int:
        """Size of the transformers' files."""
        return sum(file.size for file in self._weights())

    @property
    def missing_weight_bytes(self) -> int:
        """Bytes of weights that are still to be downloaded."""
        return self.snapshot.missing_bytes(file.path for file in self._weights())

    def missing_bytes(self, wanted: Sequence[str] = NEEDED) -> int:
        """Bytes that are still to be downloaded of what these patterns name."""
        return self.snapshot.missing_bytes(self.snapshot.matching(wanted))

    def record(self) -> SourceRecord:
        """Record of the source for a manifest, with the sizes and hashes that the Hub states."""
        return SourceRecord(self.location, self.snapshot.commit, {file.path: str(file.sha256) for file in self._weights()})

    def _weights(self) -> list[RemoteFile]:
        folders = tuple(f"{COMPONENT_FOLDERS[branch]}/" for branch in BRANCHES)
        return [
            file for path, file in self.snapshot.files.items() if path.startswith(folders) and path.endswith(".safetensors")
        ]


@dataclass(frozen=True)
class RemotePart:
    """Some of its files, by patterns."""

    source: RemoteSource
    wanted: Sequence[str]

    @property
    def total_bytes(self) -> int:
        """Size of the files."""
        return self.source.snapshot.bytes_of(self.source.snapshot.matching(self.wanted))

    @property
    def missing_bytes(self) -> int:
        """Bytes of them that are still to be downloaded."""
        return self.source.missing_bytes(self.wanted)

    def download(self, on_progress: OnProgress | None = None) -> Path:
        """Brings them. Raises SourceError, ResourceError: as `hub.fetch`."""
        return hub.fetch(self.source.snapshot, self.source.snapshot.matching(self.wanted), on_progress)


def open_remote(location: str) -> RemoteSource | None:
    """The checkpoint of a Hub id that is not whole here; None of everything that `open_source` opens without a download, or refuses.

    Raises:
        SourceError: the Hub refuses, or its config.json is not that of such a model.
    """
    place = hub.parse(location)
    if location == POCKET or place is None or place.folder or Path(location).expanduser().exists():
        return None
    try:
        snapshot = hub.look(place)
    except hub.Unavailable:
        return None
    hub.refuse_build(snapshot)
    if _CONFIG not in snapshot.files or not snapshot.missing_bytes(snapshot.matching(NEEDED)):
        return None
    folder = hub.fetch(snapshot, [path for path in _SMALL if path in snapshot.files], hub.unseen)
    return RemoteSource(snapshot, read_traits(folder), dimensions.from_config(folder / _CONFIG, TransformerConfig))
