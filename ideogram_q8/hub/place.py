"""What a repository on the Hugging Face Hub is called, and where huggingface_hub keeps what is downloaded of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.formats.names import is_revision

_REPOSITORY = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
_PLACE = re.compile(rf"({_REPOSITORY})(?:/([A-Za-z0-9][\w.-]{{0,95}}))?(?:@(.+))?", re.ASCII)
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")


@dataclass(frozen=True)
class Place:
    """`org/name[/folder][@revision]`: a repository, of several builds one, and a branch, tag or commit."""

    repository: str
    folder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision}" if self.revision else self.repository


def parse(location: str) -> Place | None:
    """The parts of a text of the form `org/name[/folder][@revision]`; None of any other."""
    match = _PLACE.fullmatch(location)
    if match is None or ".." in location or not (match[3] is None or is_revision(match[3])):
        return None
    return Place(match[1], match[2] or "", match[3])


def is_repository(location: str) -> bool:
    """Whether a text has the form `org/name`."""
    return re.fullmatch(_REPOSITORY, location) is not None


def origin(folder: Path) -> tuple[str, str] | None:
    """Repository and commit of a folder in the huggingface_hub cache that is in use, by its path; None of any other folder.

    A snapshot in another cache is a folder like any other: by its repository's name it would not be found again.
    """
    match = _SNAPSHOT.fullmatch("/".join(folder.parts[-3:]))
    if match is None:
        return None
    repository, commit = f"{match[1]}/{match[2]}", match[3]
    here = cache_of(repository) / "snapshots" / commit
    return (repository, commit) if here.resolve() == folder.resolve() else None


def cache_of(repository: str) -> Path:
    """The folder of a repository in huggingface_hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"
