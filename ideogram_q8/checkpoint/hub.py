"""Repositories of the Hugging Face Hub, in huggingface_hub's own cache. The token, if any, is its affair and never read here."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ideogram_q8.checkpoint import transfer
from ideogram_q8.checkpoint.hub_place import Place, cache_of, is_repository, origin, parse
from ideogram_q8.checkpoint.hub_refusals import Unavailable, refusals
from ideogram_q8.checkpoint.transfer import Blob
from ideogram_q8.errors import ResourceError, SourceError

__all__ = [
    "COMPANIONS",
    "MANIFEST",
    "NEEDED",
    "OnProgress",
    "Place",
    "RemoteFile",
    "Snapshot",
    "Unavailable",
    "cached",
    "download",
    "fetch",
    "is_repository",
    "look",
    "origin",
    "parse",
    "refusals",
    "refuse_build",
    "unseen",
]

COMPANIONS = (
    *("model_index.json", "traits.json", "LICENSE*", "*Notice*", "README.md", "transformer/config.json"),
    *("scheduler/*.json", "tokenizer/*"),
    *("text_encoder/*.json", "text_encoder/*.safetensors"),
    *("vae/*.json", "vae/*.safetensors"),
)
"""What a build needs of the repository that it was made from: everything but the transformers."""
NEEDED = (
    *COMPANIONS,
    *("transformer/*.json", "transformer/*.safetensors"),
    *("unconditional_transformer/*.json", "unconditional_transformer/*.safetensors"),
)
"""What is downloaded of a checkpoint: the pipeline, and the licence papers that a build of it must carry."""
MANIFEST = "manifest.json"
"""What makes a repository one of builds; a checkpoint has none."""
OnProgress = Callable[[int, int], None]
"""Called several times a second with the bytes that are here and all that are wanted; what it raises cancels."""
ANSWER_SECONDS = 10.0
"""For the first answer of the Hub, before what is in the cache is used."""
BAR_DELAY = 1.0
"""Seconds before a bar shows."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: size in bytes, and the sha256 of what the Hub keeps as a large file, else None."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Snapshot:
    """What a repository holds at a commit."""

    place: Place
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def folder(self) -> Path:
        """Where its files are once they are here."""
        return cache_of(self.place.repository) / "snapshots" / self.commit

    def matching(self, patterns: Iterable[str]) -> list[str]:
        """The files that one of these patterns names."""
        from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # not in __all__

        return sorted(filter_repo_objects(self.files, allow_patterns=list(patterns)))

    def has(self, paths: Iterable[str]) -> bool:
        """Whether all these files are in the cache."""
        return all((self.folder / path).is_file() for path in paths)

    def bytes_of(self, paths: Iterable[str]) -> int:
        """Size of these files."""
        return sum(self.files[path].size for path in paths)

    def missing_bytes(self, paths: Iterable[str]) -> int:
        """Bytes of these files that are still to be downloaded."""
        return sum(self.files[path].size - self._arrived(self.files[path]) for path in paths)

    def _arrived(self, file: RemoteFile) -> int:
        if (self.folder / file.path).is_file():
            return file.size
        return 0 if file.sha256 is None else self._blob(file, file.sha256).arrived

    def _blob(self, file: RemoteFile, sha256: str) -> Blob:
        from huggingface_hub import constants, hf_hub_url

        cache, url = cache_of(self.place.repository), hf_hub_url(self.place.repository, file.path, revision=self.commit)
        lock = Path(constants.HF_HUB_CACHE) / ".locks" / cache.name / f"{sha256}.lock"
        return Blob(url, file.size, sha256, cache / "blobs" / sha256, lock)

    def large(self, paths: Iterable[str]) -> list[Blob]:
        """Those of these files that are fetched by `transfer`: large ones that are not here yet."""
        wanted = [self.files[path] for path in paths if not (self.folder / path).is_file()]
        return [self._blob(file, file.sha256) for file in wanted if file.sha256 is not None]


def look(place: Place) -> Snapshot:
    """What the repository holds at a branch, tag or commit (`main` without one). Downloads nothing.

    Raises:
        Unavailable: the Hub cannot be reached, or wants a login.
        SourceError: it has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    with refusals(place):
        commit = str(api.repo_info(place.repository, revision=place.revision, timeout=ANSWER_SECONDS).sha)
        entries = api.list_repo_tree(place.repository, recursive=True, revision=commit)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
    inside = [file for file in files if not {"", ".", ".."} & set(file.path.split("/"))]
    found = {file.path: RemoteFile(file.path, file.size, _sha256(file.lfs.sha256 if file.lfs else None)) for file in inside}
    return Snapshot(place, commit, found)


def cached(place: Place) -> Path | None:
    """The folder of what is in the cache of a repository, whole or in part, as it was when the Hub was last asked; None: nothing."""
    cache = cache_of(place.repository)
    reference = cache / "refs" / (place.revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else place.revision or ""
    folder = cache / "snapshots" / commit
    return folder if re.fullmatch(r"[0-9a-f]{40}", commit) and folder.is_dir() else None


def fetch(snapshot: Snapshot, paths: Iterable[str], on_progress: OnProgress | None = None) -> Path:
    """Downloads files of a snapshot that are not here yet, and returns its folder. What was interrupted goes on where it was.

    Args:
        paths: keys of `snapshot.files`.
        on_progress: without it a bar shows in the terminal.

    Raises:
        SourceError: the Hub refuses, cannot be reached, or gave other bytes than it says.
        ResourceError: the disk is too small.
    """
    if on_progress is None:
        with _bar(str(snapshot.place)) as show:
            return fetch(snapshot, paths, show)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # not in __all__

    wanted = sorted(paths)
    total, left = snapshot.bytes_of(wanted), snapshot.missing_bytes(wanted)
    on_progress(total - left, total)
    if snapshot.has(wanted):
        with suppress(OSError):  # a cache that is whole may be read-only
            _note(snapshot)
        return snapshot.folder
    _check_disk(snapshot, left)
    place, large = snapshot.place, snapshot.large(wanted)
    with refusals(place):
        for blob in large:
            blob.place.parent.mkdir(parents=True, exist_ok=True)
            here = total - snapshot.missing_bytes(wanted) - blob.arrived
            transfer.fetch(blob, build_hf_headers(), lambda arrived, here=here: on_progress(here + arrived, total))  # type: ignore[misc]
        for path in wanted:
            hf_hub_download(place.repository, path, revision=snapshot.commit, tqdm_class=_Silent)
            on_progress(total - snapshot.missing_bytes(wanted), total)
        _note(snapshot)
    return snapshot.folder


def _note(snapshot: Snapshot) -> None:
    """Which commit a branch or tag was at, as huggingface_hub notes it, for when there is no network."""
    revision = snapshot.place.revision or "main"
    path = cache_of(snapshot.place.repository) / "refs" / revision
    if revision != snapshot.commit:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        temporary.write_text(snapshot.commit, encoding="utf-8")
        temporary.replace(path)


def download(place: Place, wanted: Iterable[str] = NEEDED, on_progress: OnProgress | None = None) -> Path:
    """The snapshot of a checkpoint; what is in the cache is not fetched again.

    Args:
        wanted: patterns of the files.
        on_progress: as `fetch`.

    Raises:
        SourceError: the Hub refuses or cannot be reached, or the repository holds a build; the message says what to do.
        ResourceError: the disk is too small.
    """
    from huggingface_hub import snapshot_download

    patterns = list(wanted)
    try:
        snapshot = look(place)
    except Unavailable:
        pass  # whole in the cache, or refused below
    else:
        refuse_build(snapshot)
        wanted_here = snapshot.matching(patterns)
        folder = fetch(snapshot, wanted_here, on_progress)
        if wanted_here:
            return folder
    with refusals(place):  # and it notes what belongs to the revision, for when there is no network
        found = snapshot_download(place.repository, revision=place.revision, allow_patterns=patterns, tqdm_class=_Silent)
    return Path(found)


def refuse_build(snapshot: Snapshot) -> None:
    """Raises SourceError where a checkpoint is asked for and the repository holds builds."""
    if any(path.rpartition("/")[2] == MANIFEST for path in snapshot.files):
        raise SourceError(
            f"{snapshot.place} on the Hugging Face Hub holds a build and no checkpoint; name what it was made from"
        )


def unseen(here: int, total: int) -> None:
    """Progress of small files, which nobody need see."""


def _check_disk(snapshot: Snapshot, needed: int) -> None:
    """Raises ResourceError."""
    cache = cache_of(snapshot.place.repository)
    while not cache.exists():
        cache = cache.parent
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise ResourceError(
            f"{snapshot.place} needs {_size(needed)} more, {_size(free)} are free on the disk of {cache}: make room, or name another "
            "place with HF_HOME"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _sha256(text: str | None) -> str | None:
    """It becomes a file's name, so it must be one."""
    return text if text is not None and _SHA256.fullmatch(text) else None


class _Silent(tqdm):
    """A progress bar that shows nothing."""

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options | {"disable": True})


@contextmanager
def _bar(what: str) -> Iterator[OnProgress]:
    with tqdm(unit="B", unit_scale=True, desc=what, delay=BAR_DELAY) as bar:

        def show(here: int, total: int) -> None:
            bar.total = total
            if not bar.n:  # what an earlier run brought says nothing about the rate of this one
                bar.initial = bar.n = here
            bar.update(here - bar.n)

        yield show
