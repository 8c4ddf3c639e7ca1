"""An output folder that appears whole or not at all: written under a hidden name beside it, then renamed.

    .NAME.partial   what a run writes; locked while it runs, so that two runs into one folder do not meet
    .NAME.old       what `NAME` was, between the two renames that replace it

The system drops the lock when a process dies, so whoever gets it may clear up after the dead: remains that the caller calls worth
keeping are handed to it, all others go. Renames that a kill has cut in two are undone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, ResourceError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine import platforms as machine

_REFUSALS: Mapping[int | None, str] = {
    errno.ENOSPC: "the disk is full",
    None: "the disk took less than was written",  # numpy's `tofile` does not say why
    errno.EFBIG: "the disk does not take files of this size",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk fails",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EEXIST: "a part of the path is not a folder",
}


def check_target(folder: Path, own_names: Collection[str], overwrite: bool) -> None:
    """Raises ArtifactError unless `folder` is new, empty, or to be overwritten and holds nothing but `own_names`.

    Raises ResourceError where it cannot be looked into.
    """
    check_name(folder)
    with disk_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise ArtifactError(f"{folder} is a file; name a new folder")
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in found if name not in own_names]
    if foreign:
        raise ArtifactError(f"{folder} holds {foreign[0]!r}, which is not part of an artifact; name a new or empty folder")
    if found and not overwrite:
        raise ArtifactError(f"{folder} holds an artifact already; use --overwrite or name another folder")


def check_name(path: Path) -> None:
    """Raises ResourceError where this system has no file or folder of this name."""
    problem = machine.here.name_problem(path.name)
    if problem is not None:
        raise ResourceError(f"{path}: {problem}; choose another name")


def check_space(folder: Path, needed: int) -> None:
    """Raises ResourceError unless the disk of `folder`, which need not exist, has `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            f"{folder} needs {gigabytes(needed, '.3f')} of disk, {gigabytes(free, '.3f')} are free; free some or name a folder elsewhere"
        )


def _nothing(_: Path) -> bool:
    return False


@contextlib.contextmanager
def new_folder(
    folder: Path, own_names: Collection[str], overwrite: bool = False, keep: Callable[[Path], bool] = _nothing
) -> Iterator[Path]:
    """Gives a hidden folder to write into; at the end it takes the place of `folder`.

    Args:
        keep: whether what a hidden folder holds is worth going on from. Asked about the remains of an earlier run, which are
            given to this one if so, and when this run is stopped or the disk fails it. All other failures leave nothing.

    Raises:
        ArtifactError: `folder` is a file, or holds what must not be replaced (see `check_target`), before or after writing; or
            another run is writing it.
        ResourceError: the disk is full, or cannot be written to.
    """
    folder = folder.absolute()
    check_target(folder, own_names, overwrite)
    with disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with _locked(partial, folder):
        with disk_errors(folder.parent):
            _undo_replacing(folder)
            if not keep(partial):
                _empty(partial)
        try:
            yield partial
            with disk_errors(folder.parent):
                _sync_tree(partial)
                _replace(folder, partial, own_names, overwrite)
        except BaseException as error:
            refused = isinstance(error, IdeogramQ8Error) and not isinstance(error, ResourceError)
            if refused or not keep(partial):
                shutil.rmtree(partial, ignore_errors=True)
            elif isinstance(error, ResourceError):
                kept = f"what is finished is kept in {partial}: repeat the command to go on, or delete it"
                raise ResourceError(f"{error}; {kept}") from error
            raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 and syncs it to disk. Raises ResourceError."""
    with disk_errors(path.parent), path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(folder: Path, partial: Path, own_names: Collection[str], overwrite: bool) -> None:
    """Renames `partial` to `folder`. What it replaces is moved aside first, so that no state is a mixture of both."""
    check_target(folder, own_names, overwrite)
    aside = _aside(folder)
    if folder.exists():
        machine.here.replace(folder, aside)
    try:
        machine.here.replace(partial, folder)
    except (OSError, ResourceError):
        if aside.exists():
            machine.here.replace(aside, folder)
        raise
    machine.here.sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _undo_replacing(folder: Path) -> None:
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        machine.here.replace(aside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _locked(partial: Path, folder: Path) -> Iterator[None]:
    """Makes `partial` unless it is there, and holds its lock. Raises ArtifactError: another run does."""
    busy = ArtifactError(f"another run is writing {folder}; wait until it ends, or name another folder")
    if not machine.here.locks_folders:
        try:
            with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
                partial.mkdir(exist_ok=True)
                yield
        except Timeout:
            raise busy from None
        return
    descriptor = None
    while descriptor is None:
        with disk_errors(folder.parent):
            partial.mkdir(exist_ok=True)
            descriptor = _lock(partial, busy)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(partial: Path, busy: ArtifactError) -> int | None:
    """A file descriptor that locks `partial`; None where another run has removed or renamed it meanwhile.

    Raises ArtifactError, which is `busy`: another run holds the lock; ResourceError: there are no locks on this disk.
    """
    try:
        descriptor = machine.here.lock(partial)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        raise busy from None
    except OSError as error:
        raise ResourceError(f"{partial} cannot be locked: {error.strerror}; name a folder on a disk of this machine") from error
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), partial.stat()):
            return descriptor
    os.close(descriptor)
    return None


def _sync_tree(folder: Path) -> None:
    """The folder and those in it: what is in the files has been synced, their names have not."""
    for path in folder.rglob("*"):
        if path.is_dir():
            machine.here.sync(path)
    machine.here.sync(folder)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns a disk's refusals into ResourceError, around code that writes into `folder`, which the message names."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        reason = _REFUSALS[error.errno]
        raise ResourceError(f"cannot write into {folder}: {reason}; make room or name another folder") from error
