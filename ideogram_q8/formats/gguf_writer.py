"""GGUF written as a stream, by gguf-py: Linears in ggml blocks or floats, everything else F32, official names.

ComfyUI-GGUF and stable-diffusion.cpp read vectors as F32, and bfloat16 loses nothing in it. A file too large for its place is
split as llama.cpp's gguf-split does: the first shard has all metadata, each says its number, a tensor is never cut.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import gguf
import numpy as np

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.formats.placement import TensorPlacement
from ideogram_q8.model.schemes import gguf_block

ARCHITECTURE = "ideogram4"
"""`general.architecture`; readers of this model have not agreed on a name yet (`ideogram4`, `ideogram`, none)."""
_MOST_SHARDS = 99_999


@dataclass(frozen=True)
class KeyValue:
    """An entry of a header that is no text; `items` is the type of a list's values."""

    key: str
    value: object
    kind: gguf.GGUFValueType
    items: gguf.GGUFValueType | None = None


@dataclass(frozen=True)
class GgufMetadata:
    """What a file says beside its tensors: `file_type` is llama.cpp's number of a mixture of types."""

    architecture: str
    file_type: int
    texts: Mapping[str, str]
    values: tuple[KeyValue, ...] = ()


@dataclass(frozen=True)
class GgufShard:
    """The file's place among `count`, from 0, which have so many tensors together."""

    number: int
    count: int
    tensors: int


def stored_bytes(record: TensorRecord) -> int:
    """Bytes of a tensor's data."""
    return gguf_block(record.dtype).row_bytes(math.prod(record.shape))


def padded_bytes(record: TensorRecord) -> int:
    """Bytes that a tensor takes in a file."""
    return _padded(stored_bytes(record))


def place(records: Sequence[TensorRecord], header: GgufMetadata, shard: GgufShard | None = None) -> TensorPlacement:
    """The file of these tensors in the order of `records`, each at a multiple of GGUF's alignment, the end too."""
    begin = _header(records, header, shard)
    offsets, end = {}, len(begin)
    for record in records:
        offsets[record.name] = end
        end += padded_bytes(record)
    return TensorPlacement(begin, offsets, end)


def split(records: Sequence[TensorRecord], header: GgufMetadata, limit: int) -> list[tuple[TensorRecord, ...]]:
    """The tensors of each shard, in order: as many as `limit` bytes hold, header and all, and at least one.

    Raises:
        RequestError: there would be more shards than their names can count.
    """
    room = limit - len(_header(records, header, GgufShard(0, 1, len(records))))  # no shard's header is longer than that of all
    shards: list[list[TensorRecord]] = []
    used = 0
    for record in records:
        size = padded_bytes(record)
        if not shards or used + size > room:
            shards.append([])
            used = 0
        shards[-1].append(record)
        used += size
    if len(shards) > _MOST_SHARDS:
        raise RequestError(
            f"a split size of {limit} bytes makes {len(shards)} files, expected at most {_MOST_SHARDS}; name more"
        )
    return [tuple(shard) for shard in shards]


def _header(records: Sequence[TensorRecord], header: GgufMetadata, shard: GgufShard | None) -> bytes:
    """Makes the header with gguf-py, which writes one to a file only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        writer = gguf.GGUFWriter(path, header.architecture)
        try:
            _describe(writer, records, header, shard)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        found = path.read_bytes()
    return found.ljust(_padded(len(found)), b"\0")


def _padded(size: int) -> int:
    return gguf.GGUFWriter.ggml_pad(size, gguf.GGUF_DEFAULT_ALIGNMENT)


def _describe(writer: gguf.GGUFWriter, records: Sequence[TensorRecord], header: GgufMetadata, shard: GgufShard | None) -> None:
    if shard is not None and shard.number > 0:
        writer.kv_data[0].clear()  # gguf-py begins each header with the architecture, gguf-split's later shards have none
    else:
        writer.add_custom_alignment(gguf.GGUF_DEFAULT_ALIGNMENT)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(header.file_type)
        for key, value in header.texts.items():
            writer.add_string(key, value)
        for item in header.values:
            writer.add_key_value(item.key, item.value, item.kind, item.items)
    if shard is not None:
        writer.add_uint16(gguf.Keys.Split.LLM_KV_SPLIT_NO, shard.number)
        writer.add_uint16(gguf.Keys.Split.LLM_KV_SPLIT_COUNT, shard.count)
        writer.add_int32(gguf.Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT, shard.tensors)
    for record in records:
        kind = cast(
            gguf.GGMLQuantizationType, gguf_block(record.dtype).gguf_type
        )  # a number: there are types that gguf-py has no name for
        # any dtype but uint8 makes gguf-py take the shape as that of the values
        writer.add_tensor_info(record.name, record.shape, np.dtype(np.int8), stored_bytes(record), raw_dtype=kind)
