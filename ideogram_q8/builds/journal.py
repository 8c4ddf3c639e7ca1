"""What a run that writes for long has finished, so that the next can go on after a kill: a text file beside the data.

The first line says what was being made. Each other names a weight file, a tensor whose bytes are on disk, and their CRC-32. A line
is written after what it vouches for has been synced, so it holds after a power cut too; a last line cut short is no line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

NAME = "journal"
_LINE = re.compile(r"([^\t]+)\t([^\t]+)\t([0-9a-f]{8})")


def finished(folder: Path, key: str) -> dict[str, dict[str, int]]:
    """CRC-32 by tensor by file, in the order of writing.

    Empty where `folder` has no journal, a damaged one (nothing in it can be trusted then), or that of another `key`.
    """
    first, *lines = _lines(folder) or [""]
    found: dict[str, dict[str, int]] = {}
    for line in lines if first == key else ():
        parts = _LINE.fullmatch(line)
        if parts is None:
            return {}
        file, tensor, check = parts.groups()
        found.setdefault(file, {})[tensor] = int(check, 16)
    return found


def _lines(folder: Path) -> list[str]:
    """The whole lines; none where it is no text file."""
    try:
        return (folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        return []


class Journal:
    """The journal of a folder, open for more. A context manager."""

    def __init__(self, folder: Path, key: str) -> None:
        """Begins a journal with the line `key` unless there is one."""
        text = "".join(f"{line}\n" for line in _lines(folder)) or f"{key}\n"
        self._file = (folder / NAME).open("r+b" if (folder / NAME).exists() else "w+b")
        self._file.write(text.encode())
        self._file.truncate()
        self._sync()

    def add(self, file: str, tensors: Iterable[tuple[str, int]]) -> None:
        """Enters (name, CRC-32) of tensors whose bytes have been synced."""
        self._file.write("".join(f"{file}\t{name}\t{check:08x}\n" for name, check in tensors).encode())
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
