"""Files of a folder that is to be published: regular ones, and none that a link leads out of it to."""

from __future__ import annotations

import os
from pathlib import Path

from ideogram_q8.errors import PublishError, printable


def has(root: Path, path: str | Path) -> bool:
    """Whether a folder has an entry of this name, whatever it is: a link that leads nowhere counts."""
    return os.path.lexists(root / path)


def regular_file(root: Path, path: str | Path, remedy: str) -> Path:
    """The file at ``path`` in ``root``, looked at before anything opens it.

    Args:
        remedy: what to do where it is missing.

    Raises:
        PublishError: it is missing, no regular file, or behind a link that leaves ``root``, which may lead to anything on this machine.
    """
    file = root / path
    if not os.path.lexists(file):
        raise PublishError(f"{shown(file)} is missing; {remedy}")
    place = Path(os.path.realpath(file))
    if not place.is_relative_to(os.path.realpath(root)):
        raise PublishError(
            f"{shown(file)} is a link to {shown(place)}, which is not in {shown(root)}; put a copy of the file in its place"
        )
    if not place.is_file():
        raise PublishError(f"{shown(file)} is no regular file; {remedy}")
    return file


def shown(path: Path) -> str:
    """A path in a message of one line."""
    return printable(str(path))
