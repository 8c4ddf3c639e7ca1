"""Is a weight file what its first bytes say, and are those what the manifest says? Read here by hand, from the formats' texts.

A push is the last moment at which a broken file costs nothing, so its header is checked by other code than wrote it. Only the header is
read, and no more of it than its limits allow.

Sources: safetensors' README (https://github.com/huggingface/safetensors) and ggml's docs/gguf.md
(https://github.com/ggml-org/ggml), which are the formats' definitions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.formats.strict_json import parse_json

LARGEST_HEADER = 100_000_000
"""Bytes; safetensors' own limit, and far above any GGUF header of this model."""
MOST_ENTRIES = 100_000
"""Of tensors or of metadata."""
LONGEST_TEXT = 10_000_000
DEEPEST_ARRAY = 4
_SAFETENSORS_BYTES = {"I8": 1, "U8": 1, "BF16": 2, "F16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True)
class Extent:
    """A tensor as a header describes it; `start` and `size` in bytes, from the beginning of the file's data."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    size: int


def check_header(path: Path, expected: Sequence[TensorRecord]) -> None:
    """Compares a .safetensors or .gguf file's header with the file's size and with the manifest's tensors.

    Raises:
        PublishError: the header is damaged, its tensors do not fill the file without gap or overlap, or they are not `expected`.
    """
    reader: Callable[[BinaryIO], tuple[list[Extent], int, int]] | None = _READERS.get(path.suffix)
    if reader is None:
        raise _broken(path, f"its name ends in {path.suffix or 'nothing'}, expected {' or '.join(_READERS)}")
    try:
        with path.open("rb") as file:
            extents, begin, alignment = reader(file)
    except (struct.error, UnicodeDecodeError, PublishError) as error:
        raise _broken(path, f"its header cannot be read ({error})") from error
    _check_extents(path, extents, begin, alignment)
    _check_tensors(path, extents, expected)


def _broken(path: Path, what: str) -> PublishError:
    return PublishError(f"{path}: {what}; quantize again, and push the new files")


def _check_extents(path: Path, extents: Sequence[Extent], begin: int, alignment: int) -> None:
    """The tensors, in the order of their data, follow each other up to the end; between them only padding to `alignment`."""
    end = 0
    for extent in sorted(extents, key=lambda e: (e.start, e.size)):
        expected = _aligned(end, alignment)
        if extent.start != expected:
            raise _broken(path, f"the data of {extent.name[:80]!r} begin at byte {extent.start:,}, expected {expected:,}")
        end = extent.start + extent.size
    size = path.stat().st_size
    if size not in (begin + end, begin + _aligned(end, alignment)):
        raise _broken(path, f"it has {size:,} bytes, its header describes {begin + end:,}")


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _check_tensors(path: Path, extents: Sequence[Extent], expected: Iterable[TensorRecord]) -> None:
    found = {extent.name: (extent.shape, extent.dtype) for extent in extents}
    wanted = {record.name: (record.shape, record.dtype) for record in expected}
    if len(found) != len(extents):
        raise _broken(path, "its header names a tensor twice")
    for name in sorted(found.keys() ^ wanted.keys()):
        raise _broken(path, f"tensor {name[:80]!r} is {'not in the manifest' if name in found else 'missing from its header'}")
    for name, described in wanted.items():
        if found[name] != described:
            raise _broken(path, f"tensor {name[:80]!r} is {found[name]} in its header, {described} in the manifest")


def _read_safetensors(file: BinaryIO) -> tuple[list[Extent], int, int]:
    """The tensors, where the data begin, and their alignment (1: there is no padding)."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LARGEST_HEADER:
        raise PublishError(f"{length:,} bytes long, the limit is {LARGEST_HEADER:,}")
    entries: Any = parse_json(_exactly(file, length).decode(), "header", PublishError)
    if not isinstance(entries, dict):
        raise PublishError("not an object")
    return [_safetensors_extent(name, entry) for name, entry in entries.items() if name != "__metadata__"], 8 + length, 1


def _safetensors_extent(name: str, entry: Any) -> Extent:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            if dtype in _SAFETENSORS_BYTES and all(type(n) is int and n >= 0 for n in shape):
                if end - start == math.prod(shape) * _SAFETENSORS_BYTES[dtype]:
                    return Extent(name, tuple(shape), dtype, start, end - start)
                raise PublishError(f"tensor {name[:80]!r} of shape {shape} and dtype {dtype} has {end - start:,} bytes")
    raise PublishError(f"tensor {name[:80]!r} is described as {str(entry)[:80]}")


def _read_gguf(file: BinaryIO) -> tuple[list[Extent], int, int]:
    """The tensors, where the data begin, and their alignment."""
    magic, version, tensors, pairs = struct.unpack("<4sIQQ", _exactly(file, 24))
    if magic != b"GGUF" or version != 3:
        raise PublishError(f"it begins with {magic!r} version {version}, expected GGUF version 3")
    if max(tensors, pairs) > MOST_ENTRIES:
        raise PublishError(f"{tensors:,} tensors and {pairs:,} entries, the limit is {MOST_ENTRIES:,}")
    metadata: dict[str, object] = {}
    for _ in range(pairs):
        key = _text(file)
        if key in metadata:
            raise PublishError(f"entry {key[:80]!r} is given twice")
        metadata[key] = _value(file, _number(file, "<I"))
    extents = [_gguf_extent(file) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 16:
        raise PublishError(f"general.alignment is {alignment!r}")
    return extents, _aligned(file.tell(), alignment), alignment


def _gguf_extent(file: BinaryIO) -> Extent:
    name, rank = _text(file), _number(file, "<I")
    if not 0 < rank <= 4:
        raise PublishError(f"tensor {name[:80]!r} has {rank} dimensions")
    shape = tuple(reversed([_number(file, "<Q") for _ in range(rank)]))
    kind, start = _number(file, "<I"), _number(file, "<Q")
    known = {quantization.value: quantization for quantization in GGMLQuantizationType}
    if kind not in known:
        raise PublishError(f"tensor {name[:80]!r} is of type {kind}, which is unknown")
    block, size = GGML_QUANT_SIZES[known[kind]]
    if shape[-1] % block:
        raise PublishError(f"tensor {name[:80]!r} of shape {shape} is not a whole number of {known[kind].name} blocks")
    return Extent(name, shape, known[kind].name, start, math.prod(shape) // block * size)


def _value(file: BinaryIO, kind: int, depth: int = 0) -> object:
    if kind in _SCALARS:
        return _number(file, _SCALARS[kind])
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY or depth == DEEPEST_ARRAY:
        raise PublishError(f"a value is of type {kind}")
    item, count = _number(file, "<I"), _number(file, "<Q")
    if count > LONGEST_TEXT:
        raise PublishError(f"an array of {count:,} values")
    return [_value(file, item, depth + 1) for _ in range(count)]


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > LONGEST_TEXT:
        raise PublishError(f"a text of {length:,} bytes")
    return _exactly(file, length).decode()


def _exactly(file: BinaryIO, count: int) -> bytes:
    if file.tell() + count > LARGEST_HEADER:
        raise PublishError(f"longer than {LARGEST_HEADER:,} bytes")
    content = file.read(count)
    if len(content) != count:
        raise PublishError("it ends early")
    return content


_READERS: Mapping[str, Callable[[BinaryIO], tuple[list[Extent], int, int]]] = {
    ".safetensors": _read_safetensors,
    ".gguf": _read_gguf,
}
