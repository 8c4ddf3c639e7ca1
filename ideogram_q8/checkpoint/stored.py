"""safetensors files as a table of stored tensors, read piece by piece with plain file reads.

Not through safetensors' own `safe_open`: it maps the file, so that every page touched counts as resident memory, hands out whole
tensors only, and parses whatever a header holds. Plain reads need one buffer, release the interpreter's lock and work from several
threads. The format is that of the safetensors documentation (huggingface.co/docs/safetensors): eight bytes of header length, a JSON header
of at most 100 MB, then the data without holes. Metadata may fill a header, as workflows and training logs do; what a parser makes many
objects of (lists, objects, commas) is counted before it is parsed.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8 import file_kinds
from ideogram_q8.errors import SourceError
from ideogram_q8.numerics.dtypes import BITS, torch_dtype
from ideogram_q8.strict_json import parse_json

HEADER_LIMIT = 100_000_000
"""Bytes, as safetensors itself has it (src/tensor.rs, MAX_HEADER_SIZE). The official file's header has 70 kB."""
TENSOR_LIMIT = 16_384
_TOKEN_LIMIT = 24 * TENSOR_LIMIT
"""Most texts, commas and opening brackets of a header: an entry of eight dimensions has 19."""
_NAME_LIMIT = 256
_DIMENSION_LIMIT = 8
_SMALL = 4096
"""Most bytes of a stored text, such as ComfyUI's markers."""


@dataclass(frozen=True)
class _File:
    """A file as it was when its header was read."""

    path: Path
    size: int
    modified_ns: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `dtype` in safetensors' word, `offset` of its first byte in the file."""

    file: _File
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.file.path}: {self.name}"

    def read(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Elements start to stop (all without it) of the flattened tensor, one-dimensional, in the stored type.

        Raises:
            SourceError: the file is gone, has changed since it was opened, or cannot be read.
        """
        dtype = torch_dtype(self.dtype)
        count = (self.count if stop is None else stop) - start
        elements = torch.empty(count, dtype=dtype)
        target = elements.view(torch.uint8).numpy().data
        try:
            with self.file.path.open("rb", buffering=0) as file:
                self._check_unchanged(os.fstat(file.fileno()))
                file.seek(self.offset + start * dtype.itemsize)
                while target:
                    got = file.readinto(target)
                    if not got:
                        raise SourceError(f"{self} ends early; download the file again")
                    target = target[got:]
        except OSError as error:
            raise SourceError(f"{self} cannot be read: {error.strerror}; check the disk or download the file again") from None
        return elements

    def read_text(self) -> str:
        """The text of a short U8 tensor. Raises SourceError: it is none."""
        if self.dtype != "U8" or self.count > _SMALL:
            raise SourceError(f"{self} is {self.dtype} {list(self.shape)}, expected U8 of at most {_SMALL} bytes")
        try:
            return bytes(self.read().numpy()).decode("utf-8")
        except UnicodeDecodeError:
            raise SourceError(f"{self} is not text, expected JSON") from None

    def _check_unchanged(self, found: os.stat_result) -> None:
        if (found.st_size, found.st_mtime_ns) != (self.file.size, self.file.modified_ns):
            raise SourceError(f"{self.file.path} has changed since it was opened; let nothing write to it and run again")


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself: its tensors by name, in the file's order, and its metadata's texts."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of one safetensors file.

    Raises:
        SourceError: there is no such file, or it is not a whole safetensors file.
    """
    try:
        with file_kinds.open_regular(path) as file:
            status = os.fstat(file.fileno())
            length = int.from_bytes(file.read(8), "little")
            room = status.st_size - 8
            if not 2 <= length <= min(room, HEADER_LIMIT):
                file.seek(0)
                problem = f"its header's length is {length}, at most {max(0, min(room, HEADER_LIMIT))} fit"
                raise _other_kind(path, status.st_size, problem, file.read(file_kinds.HEAD))
            header = file.read(length)
    except FileNotFoundError:
        raise SourceError(f"no file {path}; download the checkpoint again or check the folder") from None
    except OSError as error:
        raise SourceError(f"{path} is not a whole safetensors file: {error.strerror}; check the path") from None
    if _has_too_many_values(header):
        raise _broken(path, status.st_size, f"its header lists more than {TENSOR_LIMIT} tensors can take")
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError:
        raise _broken(path, status.st_size, "its header is not text") from None
    del header
    entries = parse_json(text, f"{path}: header", SourceError)
    if not isinstance(entries, dict):
        raise _broken(path, status.st_size, "its header is not a JSON object")
    texts = entries.pop("__metadata__", None)
    metadata = {key: text for key, text in texts.items() if isinstance(text, str)} if isinstance(texts, dict) else {}
    if len(entries) > TENSOR_LIMIT:
        raise _broken(path, status.st_size, f"it lists {len(entries)} tensors, at most {TENSOR_LIMIT} are read")
    return Header(_table(_File(path, status.st_size, status.st_mtime_ns), entries, 8 + length), metadata)


def _table(file: _File, entries: Mapping[str, object], data_start: int) -> dict[str, StoredTensor]:
    """Checks that the tensors fill the rest of the file, one after the other."""
    found: dict[str, StoredTensor] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        parsed = _entry(entry)
        if parsed is None or len(name) > _NAME_LIMIT or not name.isprintable():
            raise _broken(file.path, file.size, f"its header's entry {ascii(name)[:80]} is not that of a tensor")
        dtype, shape, begin, end = parsed
        spans.append((begin, end))
        found[name] = StoredTensor(file, name, dtype, shape, data_start + begin)
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise _broken(file.path, file.size, f"its data has a hole or an overlap at byte {min(begin, position)}")
        position = end
    if data_start + position != file.size:
        raise _broken(file.path, file.size, f"its header describes {data_start + position} bytes")
    return found


def _entry(value: object) -> tuple[str, tuple[int, ...], int, int] | None:
    """dtype, shape, first and last byte of one entry of the header; None where they contradict each other."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        return None
    dtype, shape, span = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS or not _naturals(shape) or not _naturals(span):
        return None
    if len(shape) > _DIMENSION_LIMIT or len(span) != 2 or math.prod(shape) * BITS[dtype] != 8 * (span[1] - span[0]):
        return None
    return dtype, tuple(shape), span[0], span[1]


def _naturals(value: object) -> bool:
    """Whether it is a list of numbers that a file's size can have."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[,\[{]', re.DOTALL)


def _has_too_many_values(header: bytes) -> bool:
    """Whether a JSON document has more texts, lists, objects and commas than a header of TENSOR_LIMIT tensors."""
    return any(True for _ in itertools.islice(_TOKEN.finditer(header), _TOKEN_LIMIT, None))


def _other_kind(path: Path, size: int, problem: str, head: bytes) -> SourceError:
    """The refusal of a file by its first bytes, where they tell what it is instead; else by `problem`."""
    kind = file_kinds.of(head)
    if kind is None or kind.remedy == file_kinds.AGAIN or kind.what.endswith("safetensors file"):
        return _broken(path, size, problem if kind is None else f"{problem}; it is {kind.what}")
    return SourceError(f"{path} ({size} bytes) is not a whole safetensors file: it is {kind.what}; {kind.remedy}")


def _broken(path: Path, size: int, reason: str) -> SourceError:
    return SourceError(f"{path} ({size} bytes) is not a whole safetensors file: {reason}; download it again")
