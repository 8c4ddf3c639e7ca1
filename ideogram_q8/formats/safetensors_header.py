"""The header of a safetensors file: its tensors and their places, checked before anything else is read. No torch.

The format is that of the safetensors documentation (huggingface.co/docs/safetensors): eight bytes of header length, a JSON header
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
from typing import Generic, TypeVar

from ideogram_q8.errors import SourceError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.strict_json import parse_json

HEADER_LIMIT = 100_000_000
"""Bytes, as safetensors itself has it (src/tensor.rs, MAX_HEADER_SIZE). The official file's header has 70 kB."""
TENSOR_LIMIT = 16_384
_TOKEN_LIMIT = 24 * TENSOR_LIMIT
"""Most texts, commas and opening brackets of a header: an entry of eight dimensions has 19."""
_NAME_LIMIT = 256
_DIMENSION_LIMIT = 8
BITS: Mapping[str, int] = (
    dict.fromkeys(("F4",), 4)
    | dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6)
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)
"""All types that safetensors 0.8 knows, by bits of an element; files may hold any, only those of `numerics.dtypes` are read."""


@dataclass(frozen=True)
class FileState:
    """A file as it was when its header was read."""

    path: Path
    size: int
    modified_ns: int


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as a header describes it: `dtype` in safetensors' word, `offset` of its first byte in the file."""

    file: FileState
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of its data in bytes."""
        return self.count * BITS[self.dtype] // 8

    def __str__(self) -> str:
        return f"{self.file.path}: {self.name}"


E = TypeVar("E", bound=TensorEntry)


@dataclass(frozen=True)
class SafetensorsHeader(Generic[E]):
    """What a safetensors file says of itself: its tensors by name, in the file's order, and its metadata's texts."""

    tensors: dict[str, E]
    metadata: dict[str, str]


def read_header(path: Path) -> SafetensorsHeader[TensorEntry]:
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
    return SafetensorsHeader(_table(FileState(path, status.st_size, status.st_mtime_ns), entries, 8 + length), metadata)


def _table(file: FileState, entries: Mapping[str, object], data_start: int) -> dict[str, TensorEntry]:
    """Checks that the tensors fill the rest of the file, one after the other."""
    found: dict[str, TensorEntry] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        parsed = _entry(entry)
        if parsed is None or len(name) > _NAME_LIMIT or not name.isprintable():
            raise _broken(file.path, file.size, f"its header's entry {ascii(name)[:80]} is not that of a tensor")
        dtype, shape, begin, end = parsed
        spans.append((begin, end))
        found[name] = TensorEntry(file, name, dtype, shape, data_start + begin)
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
