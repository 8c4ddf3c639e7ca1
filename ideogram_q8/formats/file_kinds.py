"""What a file is by its first bytes, for whoever expected another: a pointer, a page or a pickle is called what it is.

A name promises nothing: what a browser or `git clone` leaves behind has the right one. Nothing is opened that is no regular file, because
opening a FIFO waits for whoever writes into it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD = 4096
"""Bytes that tell a kind."""
AGAIN = "download it again"
_SPECIAL = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@dataclass(frozen=True)
class Kind:
    """What a file is, as a noun with its article, and what to do where another was expected."""

    what: str
    remedy: str


@dataclass(frozen=True)
class _Mark:
    """A kind, and how its first bytes are recognised."""

    fits: Callable[[bytes], bool]
    kind: Kind


def _begins(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40


def _is_torch_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04") and re.search(rb"\.pkl|/version|/byteorder|/\.format_version", head[:512]) is not None


def _is_page(head: bytes) -> bool:
    return (
        re.match(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype|html|head|body|\?xml)", head, re.IGNORECASE | re.DOTALL)
        is not None
    )


_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE | re.DOTALL)


def _is_pickle(head: bytes) -> bool:
    return re.match(rb"\x80[\x02-\x05]", head) is not None


def _is_zeros(head: bytes) -> bool:
    return len(head) >= 16 and not head.strip(b"\0")


_PICKLE = "get it as .safetensors: opening a pickle can run any code, so none is opened here"
_MARKS = (
    _Mark(lambda head: not head, Kind("empty", AGAIN)),
    _Mark(
        _begins(b"version https://git-lfs", b"version https://hawser"),
        Kind("a Git-LFS pointer, which stands for the file", "run `git lfs pull` in its folder, or `hf download`"),
    ),
    _Mark(
        _is_page,
        Kind(
            "a web page",
            "download the file itself, not the page that shows it; where that is gated, log in with `hf auth login`",
        ),
    ),
    _Mark(_begins(b"GGUF"), Kind("a GGUF file", "name it with .gguf")),
    _Mark(_begins(b"\x89PNG\r\n\x1a\n"), Kind("a PNG picture", "name the file that is meant")),
    _Mark(_begins(b"\xff\xd8\xff"), Kind("a JPEG picture", "name the file that is meant")),
    _Mark(_begins(b"lmgg", b"fmgg", b"tjgg", b"algg"), Kind("a file of ggml before GGUF", "get it as GGUF")),
    _Mark(_is_torch_zip, Kind("a PyTorch checkpoint (a pickle in a ZIP archive)", _PICKLE)),
    _Mark(_is_pickle, Kind("a Python pickle, as in .ckpt, .pt and .bin", _PICKLE)),
    _Mark(
        _begins(b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"),
        Kind("an archive", "unpack it"),
    ),
    _Mark(_is_safetensors, Kind("a safetensors file", "name it with .safetensors")),
    _Mark(_is_zeros, Kind("zeros at its beginning, as an interrupted download has them", AGAIN)),
    _Mark(
        lambda head: re.match(rb"(?:\xef\xbb\xbf)?\s*[\[{]", head) is not None,
        Kind("a JSON text", "name the file with the weights; what a server answers in JSON is mostly an error"),
    ),
)


def of(head: bytes) -> Kind | None:
    """The kind of a file that begins with these bytes, HEAD of them or all; None: none that is known."""
    return next((mark.kind for mark in _MARKS if mark.fits(head)), None)


def of_file(path: Path) -> Kind | None:
    """The kind of a file. Raises OSError: there is none, it is no regular file, or it cannot be read."""
    with open_regular(path) as file:
        return of(file.read(HEAD))


class NotRegularError(OSError):
    """A path that is a folder, a FIFO, a socket or a device; `strerror` says which."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to read bytes, without waiting for anything else.

    Raises:
        NotRegularError: it is something else.
        OSError: there is none, or it cannot be read.
    """
    _check_regular(path, path.stat())
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check_regular(path, os.fstat(file.fileno()))  # which may have come into its place meanwhile
    except OSError:
        file.close()
        raise
    return file


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = next((what for is_so, what in _SPECIAL.items() if is_so(found.st_mode)), "something else")
        raise NotRegularError(errno.EINVAL, f"it is no file at all but {what}", str(path))
