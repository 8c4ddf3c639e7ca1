"""An output folder that appears whole or not at all: written under a hidden name beside it, then renamed.

A failed run removes what it wrote. A killed one leaves `.NAME.partial-*`, which the next run for the same folder removes; a
lock on the hidden folder, which the system drops when a process dies, tells it from one that is being written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ideogram_q8.errors import ArtifactError, ResourceError

if sys.platform != "win32":
    import fcntl


def check_target(folder: Path, own_names: Collection[str], overwrite: bool) -> None:
    """Raises ArtifactError unless `folder` is new, empty, or to be overwritten and holds nothing but `own_names`."""
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; name a new folder")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in found if name not in own_names]
    if foreign:
        raise ArtifactError(f"{folder} holds {foreign[0]!r}, which is not part of an artifact; name a new or empty folder")
    if found and not overwrite:
        raise ArtifactError(f"{folder} holds an artifact already; use --overwrite or name another folder")


def check_space(folder: Path, needed: int) -> None:
    """Raises ResourceError unless the disk of `folder`, which need not exist, has `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            f"{folder} needs {needed / 1e9:.3f} GB of disk, {free / 1e9:.3f} GB are free; free some or name a folder elsewhere"
        )


@contextlib.contextmanager
def new_folder(folder: Path, own_names: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty hidden folder to write into; at the end it takes the place of `folder`.

    Raises:
        ArtifactError: `folder` is a file, or holds what must not be replaced (see `check_target`), before or after writing.
        ResourceError: the disk is full, or cannot be written to.
    """
    folder = folder.absolute()
    check_target(folder, own_names, overwrite)
    partial = folder.parent / f".{folder.name}.partial-{secrets.token_hex(4)}"
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_remains(folder)
        partial.mkdir()
    lock = _lock(partial)
    try:
        yield partial
        with disk_errors(folder):
            _sync(partial)
            _replace(folder, partial, own_names, overwrite)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 and syncs it to disk. Raises ResourceError."""
    with disk_errors(path.parent), path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(folder: Path, partial: Path, own_names: Collection[str], overwrite: bool) -> None:
    """Renames `partial` to `folder`. What it replaces is moved aside first, so that no state is a mixture of both."""
    check_target(folder, own_names, overwrite)
    aside = partial.with_name(f"{partial.name}-old")
    if folder.exists():
        folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _remove_remains(folder: Path) -> None:
    for path in folder.parent.iterdir():
        lock = _lock(path) if path.name.startswith(f".{folder.name}.partial-") else None
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A file descriptor that locks `folder`; None where it is locked already or cannot be."""
    if sys.platform == "win32":  # folders cannot be locked there, so remains of killed runs are left alone
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns a disk's refusals into ResourceError, around code that writes into `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        reason = _REFUSALS[error.errno]
        raise ResourceError(f"cannot write into {folder.parent}: {reason}; make room or name another folder") from error


_REFUSALS: Mapping[int | None, str] = {
    errno.ENOSPC: "the disk is full",
    None: "the disk took less than was written",  # numpy's `tofile` does not say why
    errno.EFBIG: "the disk does not take files of this size",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EEXIST: "a part of the path is not a folder",
}
