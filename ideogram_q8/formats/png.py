"""PNG files that say how they were made: one uncompressed iTXt chunk `ideogram_q8` (PNG specification, 11.3.4.5) holding JSON.

Reading treats the file as hostile: only chunk headers before the picture data are walked, sizes are limited, nothing is decoded
but UTF-8 and JSON.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ideogram_q8.errors import RequestError
from ideogram_q8.formats import file_kinds, whole_file
from ideogram_q8.formats.strict_json import decode, parse_json

KEYWORD = "ideogram_q8"
MAX_METADATA_BYTES = 256 * 1024
_MAX_CHUNKS = 256
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PREFIX = KEYWORD.encode("latin-1") + b"\0"
_HEADER = _PREFIX + b"\0\0\0\0"
"""Keyword, compression flag 0 and method 0, empty language and translated keyword: the only form written here."""


@dataclass(frozen=True)
class _Metadata:
    """What the chunk holds, no more and no less."""

    caption: str
    variant: str
    artifact_sha256: str
    seed: int
    preset: str
    width: int
    height: int
    versions: Mapping[str, str]


def write_png(path: Path, image: Image.Image, metadata: Mapping[str, object], mode: int | None = None) -> None:
    """Writes `image` with `metadata`, whole or not at all.

    Args:
        metadata: exactly the keys caption, variant, artifact_sha256, seed, preset, width, height, versions.
        mode: permission bits of the file, such as 0o600; None: those of any new file.

    Raises:
        RequestError: the metadata are not of that form or too large, or the folder does not exist.
        OSError: the disk is full or not writable; nothing is left behind.
    """
    text = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
    _checked(text.encode("utf-8", "surrogatepass"), path)  # which it is that reads them strictly
    if not path.parent.is_dir():
        raise RequestError(f"{path.parent}: not a folder; create it or choose another place for {path.name}")
    info = PngInfo()
    info.add_itxt(KEYWORD, text)
    with whole_file.replacing(path, mode) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def read_metadata(path: Path) -> dict[str, object]:
    """The metadata that `write_png` stored.

    Raises:
        RequestError: not a PNG, no such chunk, or its content is damaged, too large or not of the known form.
    """
    try:
        with file_kinds.open_regular(path) as file:
            return _checked(_find_chunk(file, path), path)
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be read ({error.strerror or error}); expected a PNG made by this program"
        ) from error


def _find_chunk(file: BinaryIO, path: Path) -> bytes:
    """The JSON bytes of the one chunk named KEYWORD before the picture data."""
    head = file.read(file_kinds.HEAD)
    if head[:8] != _SIGNATURE:
        kind = file_kinds.of(head)
        raise RequestError(f"{path}: not a PNG file{'' if kind is None else f': it is {kind.what}'}")
    file.seek(8)
    found: bytes | None = None
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise RequestError(f"{path}: the PNG ends inside its headers; copy the file again")
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            break
        start = file.read(min(length, len(_PREFIX)))
        if kind != b"iTXt" or start != _PREFIX:
            file.seek(length - len(start) + 4, os.SEEK_CUR)
            continue
        if found is not None:
            raise RequestError(f"{path}: two chunks named {KEYWORD}, expected one")
        found = _read_chunk(file, start, length, path)
    if found is None:
        raise RequestError(f"{path}: no {KEYWORD} chunk; the picture was not made by this program, or its text was stripped")
    return found


def _read_chunk(file: BinaryIO, start: bytes, length: int, path: Path) -> bytes:
    if length > MAX_METADATA_BYTES + len(_HEADER):
        raise RequestError(f"{path}: {KEYWORD} holds {length} bytes, expected at most {MAX_METADATA_BYTES}")
    data = start + file.read(length - len(start))
    checksum = file.read(4)
    if len(data) != length or checksum != struct.pack(">I", zlib.crc32(b"iTXt" + data)):
        raise RequestError(f"{path}: the {KEYWORD} chunk is damaged; copy the file again")
    if not data.startswith(_HEADER):
        raise RequestError(f"{path}: the {KEYWORD} chunk is compressed or translated, expected plain text")
    return data[len(_HEADER) :]


def _checked(data: bytes, path: Path) -> dict[str, object]:
    """The JSON object in `data`, if it is a `_Metadata`; used in both directions, so nothing else is ever stored."""
    if len(data) > MAX_METADATA_BYTES:
        raise RequestError(f"{path}: metadata hold {len(data)} bytes, expected at most {MAX_METADATA_BYTES}")
    where = f"{path}: {KEYWORD}"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"{where}: not UTF-8 text") from None
    values: dict[str, object] = parse_json(text, where, RequestError)
    decode(_Metadata, values, where, RequestError)
    return values
