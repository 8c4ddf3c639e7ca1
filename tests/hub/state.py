"""What the loopback Hub knows: accounts, repositories, commits, blobs. Git without git: a commit is a mapping of paths to entries."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.gguf filter=lfs diff=lfs merge=lfs -text\n"
LARGE_SUFFIXES = (".safetensors", ".gguf", ".png")
LARGE_BYTES = 10_000_000
"""The Hub keeps larger files, and those with such suffixes, in its storage for large files."""


class Refusal(Exception):
    """An answer that is no success: status, the Hub's error code for it, and its message."""

    def __init__(self, status: int, message: str, code: str = "", **fields: object) -> None:
        super().__init__(message)
        self.status, self.code, self.fields = status, code, fields


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to; `scopes` make it a fine-grained one: entity name -> permissions."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()
    scopes: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Entry:
    """A file at a commit."""

    size: int
    sha256: str
    git_oid: str
    large: bool


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: Mapping[str, Entry]


@dataclass
class Repository:
    """`commits` by oid; `branches` and `tags` name some of them. `accepted` are the accounts that a gated one lets in."""

    kind: str
    name: str
    private: bool
    settings: Mapping[str, object]
    gated: str | bool = False
    accepted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    @property
    def files(self) -> Mapping[str, Entry]:
        """Of the newest commit on main."""
        return self.at("main").files


@dataclass
class Blobs:
    """Contents by sha256 in a folder. `promised` were taken by another storage (xet) and cannot be handed out."""

    folder: Path
    promised: bool = False

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def has(self, sha256: str) -> bool:
        return self.promised or self.path(sha256).is_file()

    def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.path(digest).write_bytes(content)
        return digest


def git_oid(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The text that git holds in place of a large file."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (sha256.encode(), size)


def is_large(path: str, size: int) -> bool:
    return size > LARGE_BYTES or path.endswith(LARGE_SUFFIXES)


class State:
    """Everything that outlives a request; one change at a time."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(folder)
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.collections: dict[str, dict[str, object]] = {}
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)

    def create(self, kind: str, name: str, private: bool = False, settings: Mapping[str, object] | None = None) -> Repository:
        with self.lock:
            if (kind, name) in self.repositories:
                raise Refusal(409, "You already created this repo")
            made = self.repositories[kind, name] = Repository(kind, name, private, settings or {})
            self.commit(made, "main", None, "initial commit", {".gitattributes": self.regular(GITATTRIBUTES)})
            return made

    def regular(self, content: bytes) -> Entry:
        return Entry(len(content), self.blobs.put(content), git_oid(content), large=False)

    def large(self, sha256: str, size: int) -> Entry:
        if not self.blobs.has(sha256):
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        return Entry(size, sha256, git_oid(pointer(sha256, size)), large=True)

    def commit(
        self, repository: Repository, branch: str, parent: str | None, title: str, changes: Mapping[str, Entry | None]
    ) -> Commit:
        """`changes` maps paths to their new entries, None for removal; a path that ends with / is a folder."""
        with self.lock:
            head = repository.branches.get(branch)
            if head is None and repository.commits:
                raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            if parent is not None and parent != head:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repository.commits[head].files) if head else {}
            for path, entry in changes.items():
                if entry is not None:
                    files[path] = entry
                elif path.endswith("/"):
                    files = {name: kept for name, kept in files.items() if not name.startswith(path)}
                elif files.pop(path, None) is None:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            oid = hashlib.sha1(f"{repository.name} {next(self._numbers)}".encode()).hexdigest()
            repository.commits[oid] = Commit(oid, head, title, files)
            repository.branches[branch] = oid
            return repository.commits[oid]
