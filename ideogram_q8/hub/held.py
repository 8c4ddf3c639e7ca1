"""Downloads of small files through huggingface_hub that are held to the size that the Hub's list says. No torch.

huggingface_hub (2.4) compares a file's size with what the same server says when it gives the file, and only afterwards: a file of 10 bytes
on the list may bring 50 MB. Its progress bar is told of every piece before it is written, so a bar that raises ends the download.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from ideogram_q8.errors import SourceError, printable

LARGEST = 1 << 63
"""Bytes that no file has."""


class Silent(tqdm):
    """A progress bar that shows nothing."""

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options | {"disable": True})


def bar(what: str, size: int) -> type[Silent]:
    """A class of bars that raise SourceError where more than `size` bytes arrive; `what` names the file."""

    class HeldBar(Silent):
        arrived = 0

        def update(self, count: float | None = 1) -> bool | None:
            self.arrived += int(count or 0)
            if self.arrived > size:
                raise _differs(what, size, "more")
            return super().update(count)

    return HeldBar


def check_size(file: Path, what: str, size: int) -> None:
    """Removes a file that has arrived, and raises SourceError, where it is not of `size` bytes."""
    found = file.stat().st_size
    if found != size:
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        raise _differs(what, size, f"{found}")


def is_listed(path: object, size: object) -> bool:
    """Whether a path and a size of a list are of the right kind: a text without NUL, and a whole number of bytes."""
    return isinstance(path, str) and "\0" not in path and type(size) is int and 0 <= size < LARGEST


def _differs(what: str, size: int, found: str) -> SourceError:
    return SourceError(printable(f"{what} has {size} bytes by the Hub's list, and {found} arrived; nothing of it is kept"))
