"""Repositories of the Hugging Face Hub, in huggingface_hub's own cache. The token, if any, is its affair and never read here."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ideogram_q8.errors import ResourceError, SourceError
from ideogram_q8.formats import whole_file
from ideogram_q8.formats.quantities import gigabytes, megabytes
from ideogram_q8.hub import endpoint, held, transfer
from ideogram_q8.hub.place import Place, cache_of, is_repository, origin, parse
from ideogram_q8.hub.refusals import UNREACHABLE, Unavailable, refusals, unreachable
from ideogram_q8.hub.transfer import Blob

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
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
        """Files among these that `transfer` fetches: large ones that are not here yet."""
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
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # not in __all__

    api = HfApi()
    endpoint.warn_of_plain_http(str(api.endpoint), "authorization" in build_hf_headers())
    with refusals(place):
        commit = str(api.repo_info(place.repository, revision=place.revision or "main", timeout=ANSWER_SECONDS).sha)
        entries = api.list_repo_tree(place.repository, recursive=True, revision=commit)
        try:
            files = [_remote_file(entry) for entry in entries if isinstance(entry, RepoFile)]
        except (TypeError, ValueError, LookupError, AttributeError):  # of a list that huggingface_hub does not take
            files = [None]
    listed = [file for file in files if file is not None]
    if len(listed) < len(files) or not _COMMIT.fullmatch(commit):
        raise SourceError(
            f"{place}: the Hub's list of its files is not understood; expected names, sizes and a commit; try again"
        )
    inside = [file for file in listed if not {"", ".", ".."} & set(file.path.split("/"))]
    return Snapshot(place, commit, {file.path: file for file in inside})


def _remote_file(entry: Any) -> RemoteFile | None:
    """A file of a list; None where what is said of it is not of the right kind."""
    sha256 = entry.lfs.sha256 if entry.lfs else None
    if not held.is_listed(entry.path, entry.size) or not isinstance(sha256, str | None):
        return None
    return RemoteFile(entry.path, entry.size, _sha256(sha256))


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
        for path in (path for path in wanted if not (snapshot.folder / path).is_file()):  # a whole cache may be read-only
            _bring(snapshot, path)
            on_progress(total - snapshot.missing_bytes(wanted), total)
        _note(snapshot)
    return snapshot.folder


def _bring(snapshot: Snapshot, path: str) -> None:
    """Downloads a file that is not large, or links a large one into its place. Raises SourceError: it has another size than listed."""
    from huggingface_hub import hf_hub_download

    repository, size = snapshot.place.repository, snapshot.files[path].size
    what = f"{path} of {snapshot.place}"
    found = hf_hub_download(repository, path, revision=snapshot.commit, tqdm_class=held.bar(what, size))
    held.check_size(Path(found), what, size)


def _note(snapshot: Snapshot) -> None:
    """Which commit a branch or tag was at, as huggingface_hub notes it, for when there is no network. A read-only cache stays as it is."""
    revision = snapshot.place.revision or "main"
    path = cache_of(snapshot.place.repository) / "refs" / revision
    if revision == snapshot.commit or (path.is_file() and path.read_text(encoding="utf-8").strip() == snapshot.commit):
        return
    with _unless_read_only():
        path.parent.mkdir(parents=True, exist_ok=True)
        whole_file.write_text(path, snapshot.commit)


@contextmanager
def _unless_read_only() -> Iterator[None]:
    """Leaves out what a read-only disk does not take."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def download(place: Place, wanted: Iterable[str] = NEEDED, on_progress: OnProgress | None = None) -> Path:
    """The snapshot of a checkpoint; what is in the cache is not fetched again.

    Args:
        wanted: patterns of the files.
        on_progress: as `fetch`.

    Raises:
        SourceError: the Hub refuses or cannot be reached, or the repository holds a build; the message says what to do.
        ResourceError: the disk is too small.
    """
    try:
        snapshot = look(place)
    except Unavailable as error:
        found = cached(place)
        if found is None:
            raise unreachable(place) if error.brief == UNREACHABLE else error from None
        return found
    refuse_build(snapshot)
    return fetch(snapshot, snapshot.matching(wanted), on_progress)


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
    return gigabytes(count) if count >= 1e9 else megabytes(count, ".1f")


def _sha256(text: str | None) -> str | None:
    """Returns a sha256 that may become a file's name; None for any other text."""
    return text if text is not None and _SHA256.fullmatch(text) else None


@contextmanager
def _bar(what: str) -> Iterator[OnProgress]:
    with tqdm(unit="B", unit_scale=True, desc=what, delay=BAR_DELAY) as bar:

        def show(here: int, total: int) -> None:
            bar.total = total
            if not bar.n:  # what an earlier run brought says nothing about the rate of this one
                bar.initial = bar.n = here
            bar.update(here - bar.n)

        yield show
