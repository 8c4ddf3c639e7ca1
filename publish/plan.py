"""What a push would do: the files of a release against what a repository holds. Pure; no files, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported, but not by __all__

from ideogram_q8.errors import PublishError

Action = Literal["upload", "replace", "skip"]


@dataclass(frozen=True)
class ReleaseFile:
    """A file of the release: its path in the repository, its size in bytes, and where its bytes are (a file, or made here)."""

    path: str
    size: int
    sha256: str
    content: Path | bytes


@dataclass(frozen=True)
class RemoteFile:
    """A file that the repository holds. `sha256` is None for small files, which the Hub knows by their git hash only."""

    size: int
    sha256: str | None


@dataclass(frozen=True)
class Remote:
    """A repository at the commit `head`."""

    head: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class PlannedFile:
    """A file of the release and what a push would do with it."""

    file: ReleaseFile
    action: Action


@dataclass(frozen=True)
class Plan:
    """What a push to `repo` would do. `parent` is the commit it was planned against, None when the remote was not consulted."""

    repo: str
    parent: str | None
    files: tuple[PlannedFile, ...]

    @property
    def upload_bytes(self) -> int:
        """Bytes that a push would send at most (storage that knows a file already takes fewer)."""
        return sum(planned.file.size for planned in self.files if planned.action != "skip")


def check_repo(repo: str) -> None:
    """Raises PublishError unless `repo` is NAME/REPO under the Hub's own naming rules."""
    problem = "expected NAME/REPO" if repo.count("/") != 1 else ""
    if not problem:
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            problem = str(error).splitlines()[0]
    if problem:
        raise PublishError(f"--repo is {repo!r}: {problem}; use a name as in --repo your-name/ideogram-4-int8")


def make_plan(repo: str, files: Sequence[ReleaseFile], remote: Remote | None) -> Plan:
    """The plan for `files` in the given order; without `remote` every file counts as an upload.

    Raises:
        PublishError: the repository's name is malformed, or two files have one path.
    """
    check_repo(repo)
    paths = [file.path for file in files]
    for path in paths:
        if paths.count(path) > 1:
            raise PublishError(f"two files of the release are called {path!r}; rename one")
    return Plan(repo, remote.head if remote else None, tuple(PlannedFile(f, _action(f, remote)) for f in files))


def _action(file: ReleaseFile, remote: Remote | None) -> Action:
    if remote is None or file.path not in remote.files:
        return "upload"
    return "skip" if remote.files[file.path].sha256 == file.sha256 else "replace"
