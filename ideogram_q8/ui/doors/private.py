"""Files that are this user's alone: folders with mode 0700, a temporary one for each app, empty when it starts, and room for them."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from ideogram_q8.errors import ResourceError

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
MIN_FREE_BYTES = 2**30
"""Of the disk that pictures and uploads go to: what is left to other programs."""
_held: list[FileLock] = []
"""Locks of this process's temporary folders, kept until it ends."""


def make_private(folder: Path) -> Path:
    """Makes a folder that is missing, and takes everybody else's rights to it; one of another user stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        folder.chmod(PRIVATE_FOLDER)
    return folder


def temporary_folder(parent: Path) -> Path:
    """A new folder in `parent`, for as long as this process lives. Removes those of processes that have ended, however they did."""
    make_private(parent)
    for lock in parent.glob("*.lock"):
        with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    own = parent / secrets.token_hex(8)
    _held.append(FileLock(own.with_suffix(".lock")))
    _held[-1].acquire()
    return make_private(own)


def check_disk(folder: Path, amount: int = 0) -> None:
    """Raises ResourceError: with `amount` bytes more in `folder`, less than MIN_FREE_BYTES of its disk would be free."""
    if shutil.disk_usage(folder).free - amount < MIN_FREE_BYTES:
        raise ResourceError(f"the disk is almost full: less than {MIN_FREE_BYTES // 2**30} GiB would be left; make room first")
