"""What a push would do: the files of a release against what a repository holds. Pure; no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported, but not by __all__

from ideogram_q8.errors import PublishError

Action = Literal["upload", "replace", "skip"]
_NOT_IN_REFERENCES = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{")
_LONGEST_REFERENCE = 200
_LONGEST_TITLE = 60
"""Characters of a collection's title in the Hub's description of its API (huggingface.co/.well-known/openapi.json)."""
KEPT = ".gitattributes"
"""The Hub's own file in every repository."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of the release: its path in the repository, its size in bytes, and where its bytes are (a file, or made here)."""

    path: str
    size: int
    sha256: str
    content: Path | bytes

    @property
    def git_oid(self) -> str:
        """What git calls this content. Reads it whole: for the small files that the Hub knows by this name only."""
        content = self.read()
        return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()

    def read(self) -> bytes:
        """The whole content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class CommittedFile:
    """A file that the repository holds. `sha256` is None for small files, which the Hub knows by their `git_oid` only."""

    size: int
    sha256: str | None
    git_oid: str

    def holds(self, file: ReleaseFile) -> bool:
        """Whether its bytes are those of `file`."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 else self.git_oid == file.git_oid


@dataclass(frozen=True)
class Remote:
    """A repository at the commit `head`.

    Attributes:
        on_branch: False where the branch to push to is still to be made, and `head` is that of main.
        private: whether the repository is.
        tags: commits by the names of tags.
        gated: how people come by its files, "auto" or "manual"; None: they need nothing.
    """

    head: str
    files: Mapping[str, CommittedFile]
    on_branch: bool = True
    private: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    gated: str | None = None


@dataclass(frozen=True)
class PushFile:
    """A file of the release and what a push would do with it."""

    file: ReleaseFile
    action: Action


@dataclass(frozen=True)
class PushPlan:
    """What a push to `repo` would do.

    Attributes:
        parent: the commit it was planned against, None when the repository does not exist yet or was not consulted.
        consulted: whether the Hub was asked.
        removed: files of the repository that the push deletes.
        others: files of the repository that are none of the release's and stay.
    """

    repo: str
    parent: str | None
    files: tuple[PushFile, ...]
    consulted: bool = False
    removed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def upload_bytes(self) -> int:
        """Bytes that a push would send at most (storage that knows a file already takes fewer)."""
        return sum(file.size for file in self.sent)

    @property
    def sent(self) -> tuple[ReleaseFile, ...]:
        """The files that change, the largest first."""
        changed = [planned.file for planned in self.files if planned.action != "skip"]
        return tuple(sorted(changed, key=lambda file: (-file.size, file.path)))

    @property
    def is_done(self) -> bool:
        """Whether the repository holds the release already."""
        return self.parent is not None and not self.sent and not self.removed


def check_repo(repo: str, option: str = "--repo") -> None:
    """Raises PublishError, which names the option, unless `repo` is NAME/REPO under the Hub's own naming rules, and does not pose as
    Ideogram's own.
    """
    problem = "expected NAME/REPO" if repo.count("/") != 1 else ""
    if not problem:
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            problem = str(error).splitlines()[0]
    if not problem and "official" in repo.lower():
        problem = "'official' in a name implies an endorsement that there is not"
    if problem:
        raise PublishError(f"{option} is {repo!r}: {problem}; use a name as in {option} your-name/ideogram-4-int8")


def check_reference(name: str, option: str) -> None:
    """Raises PublishError, which names the option, unless git has branches and tags of this name (git-check-ref-format)."""
    problem = "it has a sign that git allows in no name" if _NOT_IN_REFERENCES.search(name) else ""
    if any(not part or part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        problem = "a part of it is empty, starts with a dot or ends with .lock"
    if name.startswith("-") or name.endswith(".") or name == "@":
        problem = "git has no such names"
    if not 0 < len(name.encode()) <= _LONGEST_REFERENCE:
        problem = f"it has {len(name.encode())} bytes, expected 1 to {_LONGEST_REFERENCE}"
    if problem:
        raise PublishError(f"{option} is {name[:80]!r}: {problem}; use letters, digits, '.', '_' and '-', as in v1.0.0")


def check_collection(title: str) -> None:
    """Raises PublishError unless the Hub takes the title of a collection: one line that is not too long."""
    if not title.strip() or not title.isprintable() or len(title) > _LONGEST_TITLE:
        raise PublishError(
            f"--collection is {title[:80]!r} ({len(title)} characters); expected a title in one line of 1 to {_LONGEST_TITLE} characters"
        )


def make_plan(
    repo: str, files: Sequence[ReleaseFile], remote: Remote | None, consulted: bool = False, prune: bool = False
) -> PushPlan:
    """The plan for `files` in the given order; without `remote` every file counts as an upload.

    Args:
        consulted: whether `remote` is what the Hub says, even if that is None.
        prune: delete what the repository holds beside the release.

    Raises:
        PublishError: the repository's name is malformed, or two files have one path.
    """
    check_repo(repo)
    paths = [file.path for file in files]
    for path in paths:
        if paths.count(path) > 1:
            raise PublishError(f"two files of the release are called {path!r}; rename one")
    others = tuple(sorted(set(remote.files) - {*paths, KEPT})) if remote else ()
    planned = tuple(PushFile(file, _action(file, remote)) for file in files)
    removed, left = (others, ()) if prune else ((), others)
    return PushPlan(repo, remote.head if remote else None, planned, consulted or remote is not None, removed, left)


def _action(file: ReleaseFile, remote: Remote | None) -> Action:
    if remote is None or file.path not in remote.files:
        return "upload"
    return "skip" if remote.files[file.path].holds(file) else "replace"


def conflicts(plan: PushPlan, before: Remote, after: Remote) -> list[str]:
    """The files that both this push and somebody else, from `before` to `after`, have changed."""
    touched = {file.path for file in plan.sent} | set(plan.removed)
    held = {planned.file.path: planned.file for planned in plan.files}

    def changed(path: str) -> bool:
        now = after.files.get(path)
        return before.files.get(path) != now and not (now and path in held and now.holds(held[path]))

    return sorted(path for path in touched if changed(path))
