"""The header of a GGUF file from anywhere: every count, length, type and offset is checked before it is used.

gguf-py reads lists as long as they claim to be, takes sizes that wrap around, and does not notice overlaps; here a header of a few
bytes costs no more than its bytes. The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian; as in ggml's own
reader a tensor must begin where the one before it ends, so that a shape that lies is found, and lists of lists are refused.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import gguf

from ideogram_q8.errors import ArtifactError, printable
from ideogram_q8.formats import file_kinds
from ideogram_q8.model.schemes import BLOCKS, FLOATS, Block

HEADER_LIMIT = 64 << 20
"""Bytes. The tokenizer of Qwen3-VL takes 6 MB of its header."""
COUNT_LIMIT = 16_384
"""Most tensors, and most key-value pairs."""
_TEXT_LIMIT = 1 << 21
"""Most texts in lists: a vocabulary of 262,144 and its merges are 0.8 million."""
_NAME_LIMIT = 512
_DIMENSION_LIMIT = 4
_SHORT = 16
"""Lists of at most so many numbers are kept; those of tokenizers are only counted."""
_ALIGNMENTS = (8, 1 << 20)
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS: Mapping[int, str] = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""struct's codes of GGUF's value types."""
_TEXT, _LIST = 8, 9


@dataclass(frozen=True)
class LongList:
    """A list in the header whose values are not kept: a vocabulary, mostly."""

    count: int


Value = int | float | bool | str | tuple[int | float | bool, ...] | LongList
_WANTED: Mapping[str, type[int] | type[str]] = {
    "general.architecture": str,
    "general.alignment": int,
    "general.file_type": int,
    "general.quantization_version": int,
    "split.no": int,
    "split.count": int,
    "split.tensors.count": int,
}
"""What is read here or written by everyone."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in a file: `shape` in torch's order, `offset` of its first byte in the file."""

    path: Path
    name: str
    block: Block
    shape: tuple[int, ...]
    offset: int

    @property
    def dtype(self) -> str:
        """In gguf-py's word: "Q8_0", "F32", ..."""
        return self.block.name.upper()

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count // self.block.block_size * self.block.type_size


@dataclass(frozen=True)
class GgufHeader:
    """What one file says of itself."""

    path: Path
    size: int
    values: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]


def read_header(path: Path) -> GgufHeader:
    """The header of one file, of which the data that it describes are there.

    Raises:
        ArtifactError: no file, not GGUF, of types or a byte order that are not read here, or a header that contradicts itself or the
            file's size.
    """
    try:
        with file_kinds.open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size < len(_MAGIC):  # nor can nothing be mapped
                raise _broken(path, status.st_size, "it ends early")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Parser(path, data).header()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; check the path") from None


class _Parser:
    """One run of `read_header`: a position that moves through the header and never leaves it."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.position = path, data, len(data), 0
        self.listed_texts = 0
        self.unread: Counter[int] = Counter()

    def header(self) -> GgufHeader:
        self._check_version()
        tensor_count, value_count = self._number("Q"), self._number("Q")
        for count, what in ((tensor_count, "tensors"), (value_count, "values")):
            if count > COUNT_LIMIT:
                self._fail(f"it lists {count} {what}, at most {COUNT_LIMIT} are read")
        values = self._values(int(value_count))
        tensors: dict[str, GgufTensor] = {}
        for _ in range(int(tensor_count)):
            tensor = self._tensor()
            if tensor.name in tensors:
                self._fail(f"tensor {tensor.name} is listed twice")
            tensors[tensor.name] = tensor
        self._check_types()
        return GgufHeader(self.path, self.size, values, self._placed(tensors.values(), self._alignment(values)))

    def _check_version(self) -> None:
        magic = self.data[: len(_MAGIC)]
        if magic != _MAGIC:
            self._fail_as_other()
            self._fail(f"it begins with {magic!r}, expected {_MAGIC!r}")
        self.position = len(_MAGIC)
        version = int(self._number("I"))
        if version & 0xFFFF == 0:
            self._refuse(
                "is a GGUF file in big-endian byte order, expected little-endian; turn it with gguf-py's `gguf-convert-endian`"
            )
        if version not in _VERSIONS:
            self._fail(f"its version is {version}, expected {_VERSIONS[0]} or {_VERSIONS[1]}")

    def _values(self, count: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self._name("a key")
            if key in found:
                self._fail(f"key {key} is there twice")
            value = found[key] = self._value(key, int(self._number("I")))
            wanted = _WANTED.get(key, object)
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                self._fail(f"{key} is {str(value)[:60]!r}, expected {'a text' if wanted is str else 'a whole number'}")
        return found

    def _value(self, key: str, kind: int) -> Value:
        if kind == _TEXT:
            return str(self._take(self._length()), "utf-8", "replace")
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _LIST:
            self._fail(f"{key} has the type {kind}, which GGUF does not know")
        kind, count = int(self._number("I")), self._length()
        if kind == _TEXT:
            self._skip_texts(key, count)
            return LongList(count)
        if kind not in _SCALARS:
            self._fail(f"{key} is a list of values of type {kind}, expected texts or numbers")
        if count > _SHORT:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
            return LongList(count)
        return tuple(self._number(_SCALARS[kind]) for _ in range(count))

    def _skip_texts(self, key: str, count: int) -> None:
        self.listed_texts += count
        if self.listed_texts > _TEXT_LIMIT:
            self._fail(f"{key} and the lists before have {self.listed_texts} texts, at most {_TEXT_LIMIT} are read")
        for _ in range(count):
            self._skip(self._length())

    def _tensor(self) -> GgufTensor:
        """With its offset as the file has it, from where the data begin."""
        name = self._name("a tensor's name")
        dimensions = int(self._number("I"))
        if dimensions > _DIMENSION_LIMIT:
            self._fail(f"tensor {name} has {dimensions} dimensions, at most {_DIMENSION_LIMIT} are read")
        shape = tuple(int(self._number("Q")) for _ in range(dimensions))[::-1]
        kind, offset = int(self._number("I")), int(self._number("Q"))
        block = next((block for block in _known() if block.gguf_type == kind), None)
        if block is None:
            return self._unread_tensor(name, kind, shape, offset)
        if 0 in shape or math.prod(shape) % block.block_size or (shape or (1,))[-1] % block.block_size:
            self._fail(f"tensor {name} is {block.name.upper()} {list(shape)}, expected rows in blocks of {block.block_size}")
        return GgufTensor(self.path, name, block, shape, offset)

    def _unread_tensor(self, name: str, kind: int, shape: tuple[int, ...], offset: int) -> GgufTensor:
        """Counts it; `_check_types` refuses the file once all are known."""
        if _type_name(kind) is None:
            self._fail(f"tensor {name} has the type {kind}, which ggml does not know")
        self.unread[kind] += 1
        return GgufTensor(self.path, name, FLOATS["f32"], shape, offset)

    def _check_types(self) -> None:
        if self.unread:
            found = ", ".join(f"{_type_name(kind)} ({count} tensors)" for kind, count in sorted(self.unread.items()))
            read = ", ".join(block.name.upper() for block in _known())
            self._refuse(
                f"is a GGUF file with tensors in {found}, which are not read here; expected {read}: get it in one of these"
            )

    def _alignment(self, values: Mapping[str, Value]) -> int:
        found = values.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        low, high = _ALIGNMENTS
        if not isinstance(found, int) or not low <= found <= high or found & (found - 1):
            self._fail(f"general.alignment is {found}, expected a power of two from {low} to {high}")
        return found

    def _placed(self, tensors: Iterable[GgufTensor], alignment: int) -> tuple[GgufTensor, ...]:
        """With offsets in the file. Tensors lie one behind the other, each at a multiple of the alignment, and fill the file."""
        start = end = _padded(self.position, alignment)
        last = self.position
        found = []
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            begin = start + tensor.offset
            where = f"tensor {tensor.name}, {tensor.dtype} {list(tensor.shape)}, begins at byte {begin}"
            if begin % alignment:
                self._fail(f"{where}, no multiple of {alignment}")
            last = begin + tensor.nbytes
            if last > self.size:
                self._fail(f"{where} and ends at {last}")
            if begin != end:
                problem = "leaves a hole before it" if begin > end else "overlaps the one before it"
                self._fail(f"{where} and {problem}, expected byte {end}")
            end = _padded(last, alignment)
            found.append(GgufTensor(tensor.path, tensor.name, tensor.block, tensor.shape, begin))
        if self.size > end:
            self._fail(f"its tensors end at byte {last}, the file goes on")
        return tuple(found)

    def _name(self, what: str) -> str:
        length = self._length()
        if not 0 < length <= _NAME_LIMIT:
            self._fail(f"the length of {what} is {length}, expected 1 to {_NAME_LIMIT}")
        try:
            text = str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} is not text")
        if not text.isprintable():
            self._fail(f"{what} is {text[:60]!r}, which is not printable")
        return text

    def _length(self) -> int:
        """Reads the length of what follows, which takes one byte an item at least."""
        length = int(self._number("Q"))
        self._require(length)
        return length

    def _number(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]
        return value

    def _take(self, count: int) -> bytes:
        self._skip(count)
        return self.data[self.position - count : self.position]

    def _skip(self, count: int) -> None:
        self._require(count)
        self.position += count

    def _require(self, count: int) -> None:
        if self.position + count > self.size:
            self._fail(f"its header ends early, {count} bytes are to come at byte {self.position}")
        if self.position + count > HEADER_LIMIT:
            self._fail(f"its header has more than {HEADER_LIMIT} bytes")

    def _fail_as_other(self) -> None:
        """Raises ArtifactError where the first bytes tell what the file is instead."""
        kind = file_kinds.of(self.data[: file_kinds.HEAD])
        if kind is not None:
            self._refuse(f"is not a whole GGUF file: it is {kind.what}; {kind.remedy}")

    def _refuse(self, problem: str) -> NoReturn:
        """Raises ArtifactError about a whole file that this reader does not take."""
        raise ArtifactError(printable(f"{self.path} ({self.size} bytes) {problem}"))

    def _fail(self, problem: str) -> NoReturn:
        raise _broken(self.path, self.size, problem)


def _broken(path: Path, size: int, problem: str) -> ArtifactError:
    text = printable(f"{path} ({size} bytes) is not a whole GGUF file: {problem}")
    return ArtifactError(f"{text}; download it again, or mend what wrote it")


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _known() -> list[Block]:
    """The types that are read, the quantized ones first, by their numbers."""
    return [block for blocks in (BLOCKS, FLOATS) for block in sorted(blocks.values(), key=lambda block: block.gguf_type)]


def _type_name(number: int) -> str | None:
    """ggml's word for a type that is not read here; None where ggml does not know it either."""
    try:
        return gguf.GGMLQuantizationType(number).name
    except ValueError:
        return None
