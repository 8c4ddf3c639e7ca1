"""What a studio has to paint with: the variants of its source and artifacts beside them, built and downloaded when they are first used."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ideogram_q8.builds import open_artifact, variants
from ideogram_q8.builds.gguf_build import is_gguf
from ideogram_q8.builds.published import Published, find
from ideogram_q8.builds.quantization import Progress
from ideogram_q8.builds.variants import Variant
from ideogram_q8.errors import SourceError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.hub import client as hub
from ideogram_q8.sources import open_source
from ideogram_q8.sources.remote import RemotePart, RemoteSource, open_remote
from ideogram_q8.ui.doors.private import make_private
from ideogram_q8.ui.engine.events import Building, ByteTracker, Downloading, Event
from ideogram_q8.ui.engine.streaming import Emit


class Stock:
    """The variants. One thread at a time asks for a `location`; the rest is for any number of threads.

    Attributes:
        folder: the source's, which is not whole before it is downloaded.
        downloading: what is on its way, by variant.
    """

    def __init__(self, source: str, artifacts: Sequence[Path | str], cache: Path | None) -> None:
        """Raises SourceError, ArtifactError, RequestError: the source or an artifact is not there, or not what it claims to be."""
        self._remote = open_remote(source)
        opened = self._remote or open_source(source)
        self.traits, self.config, self.folder = opened.traits, opened.config, opened.folder
        self._is_on_the_hub = hub.origin(opened.folder) is not None
        self._source = str(opened.folder) if self._is_on_the_hub else source  # of which the Hub need not be asked once more
        self._cache = cache
        if (kept := cache or variants.default_cache()).is_dir():
            make_private(kept)
        self._given = {variant.name: variant for variant in variants.given(artifacts, self._known)}
        self.downloading: dict[str, Downloading] = {}

    @property
    def _known(self) -> str | RemoteSource:
        return self._remote or self._source

    @property
    def source(self) -> str | None:
        """The source as `open_source` takes it without asking the Hub; None before it is downloaded."""
        return self._source if self._remote is None else None

    def whole_source(self) -> str:
        """The same. Raises SourceError: it is not here."""
        if self._remote is not None:
            raise SourceError(f"{self._remote.location} is not downloaded yet; generate a picture with FP8, which downloads it")
        return self._source

    def variants(self) -> list[Variant]:
        """All variants, with what is known of them now."""
        known = self._known
        return [*variants.catalogue(known, self._cache), *(variants.current(each, known) for each in self._given.values())]

    def described_in(self, variant: str) -> str | None:
        """`Variant.described_in` of an artifact; None for the source's own variants."""
        return self._given[variant].described_in if variant in self._given else None

    def is_to_download(self, variant: str) -> bool:
        """Whether files are still missing that only the Hub has."""
        found = next((each for each in self.variants() if each.name == variant), None)
        return found is not None and bool(found.problem or found.missing_bytes or found.rest_bytes)

    def location(self, variant: str, emit: Emit[Event]) -> tuple[str, str | None]:
        """What `loading.load` takes, location and source, of a variant that is whole then.

        Raises:
            IdeogramQ8Error: there is no such variant, or it cannot be built or downloaded.
        """
        given = self._there(variant)
        self._download(variant, given, emit)
        if variant == "fp8":
            return self._source, None
        found = self._built(variant, emit) if given is None else str(given.location or given.described_in)
        knows_its_source = not Path(found).is_file() and not self._is_on_the_hub
        return found, None if knows_its_source else self._source

    def _there(self, name: str) -> Variant | None:
        """An artifact, of which the Hub is asked once more where it gave nothing before; None: one of the source's own variants."""
        variant = self._given.get(name)
        if variant is not None and variant.problem:
            variant = self._given[name] = variants.look_again(variant, self._known)
        return variant

    def _download(self, variant: str, given: Variant | None, emit: Emit[Event]) -> None:
        """What is missing of the source, and of an artifact, as one download."""
        wanted = hub.NEEDED if given is None else hub.COMPANIONS
        parts: list[RemotePart | Published] = [] if self._remote is None else [RemotePart(self._remote, wanted)]
        if given is not None and given.published is not None:
            parts.append(given.published)
        missing = [part for part in parts if part.missing_bytes]

        def noted(event: Event) -> None:
            if isinstance(event, Downloading):
                self.downloading[variant] = event
            emit(event)

        try:
            for i, part in enumerate(missing):
                before, after = (sum(each.total_bytes for each in side) for side in (missing[:i], missing[i + 1 :]))
                part.download(ByteTracker(variant, noted, before, after))
        finally:
            self.downloading.pop(variant, None)
        if self._remote is not None and not self._remote.missing_bytes():
            self._remote = None

    def _built(self, variant: str, emit: Emit[Event]) -> str:
        def on_progress(progress: Progress) -> None:
            emit(Building(variant, progress.done_bytes / max(1, progress.total_bytes)))

        with contextlib.suppress(OSError):  # building says what is wrong where the folder cannot be made
            make_private(self._cache or variants.default_cache())
        return variants.prepare(variant, self._source, self._cache, on_progress)


def source_of(artifacts: Sequence[Path | str]) -> str:
    """What the first artifact that says so was made from, as `open_source` takes it; the pocket where none does.

    Raises:
        SourceError, ArtifactError: as `variants.given`.
    """
    for artifact in artifacts:
        for manifest in _manifests(artifact):
            location, revision = manifest.source.location, manifest.source.revision
            return f"{location}@{revision}" if revision and hub.is_repository(location) else location
    return "pocket"


def _manifests(artifact: Path | str) -> list[Manifest]:
    """Manifests of a folder or of a build on the Hub; none for a file, and none where the Hub gives nothing now."""
    path = Path(artifact).expanduser()
    place = None if path.exists() else hub.parse(str(artifact))
    if place is None:
        return [] if is_gguf(path) or path.is_file() else [open_artifact(path).manifest]
    try:
        return [build.manifest for build in find(place)]
    except hub.Unavailable:
        return []
