"""Writing a file whole: under a temporary name beside it, synced to the disk, then renamed over what was there.

Whatever stops the writing, an exception, a kill or a power cut, a file of that name is the old one or the new one. An exception
leaves no temporary file; a kill may leave a hidden one, `.RANDOM.partial`, which nothing reads.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ideogram_q8.machine import platforms as machine

SUFFIX = ".partial"
"""The end of a temporary file's name."""


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A temporary path in the folder of `path`, where the block writes a file; at its end the file is synced and renamed to `path`.

    An exception in the block, KeyboardInterrupt included, removes the temporary file and leaves `path` as it was.

    Args:
        mode: permission bits of an empty file that is there before the block writes, such as 0o600; None: the block makes the file.

    Raises:
        OSError: the disk is full or cannot be written to.
        ResourceError: another program holds `path` open (Windows).
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{SUFFIX}")
    try:
        if mode is not None:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield temporary
        with temporary.open("r+b") as file:  # Windows syncs no file that is open for reading only
            os.fsync(file.fileno())
        machine.here.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all. Raises OSError; ResourceError: another program holds `path` open (Windows)."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8 with its line ends as they are, whole or not at all. Raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))
