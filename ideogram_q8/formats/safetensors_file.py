"""safetensors as a stream: the header is known before the first tensor is computed, and no two tensors are held at once.

safetensors' own `save_file` needs all tensors in memory. Headers are read as those of checkpoints are.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.formats.mapping import mapped
from ideogram_q8.formats.placement import TensorPlacement
from ideogram_q8.formats.safetensors_header import BITS
from ideogram_q8.formats.stored import read_header
from ideogram_q8.numerics.dtypes import torch_dtype


def stored_bytes(record: TensorRecord) -> int:
    """Bytes of a tensor's data."""
    return math.prod(record.shape) * BITS[record.dtype] // 8


def write(
    path: Path, records: Sequence[TensorRecord], tensors: Iterable[tuple[str, torch.Tensor]], metadata: Mapping[str, str]
) -> None:
    """Writes `tensors`, in any order, to the places that `records` give them, and syncs the file to disk.

    Raises:
        ValueError: `tensors` are not those of `records`.
    """
    placement = place(records, metadata)
    expected = {record.name: record for record in records}
    with path.open("wb") as file:
        file.write(placement.header)
        for name, tensor in tensors:
            record = expected.pop(name)
            if tensor.dtype != torch_dtype(record.dtype) or tuple(tensor.shape) != record.shape:
                raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, planned {record.dtype} {list(record.shape)}")
            file.seek(placement.offsets[name])
            file.write(tensor.contiguous().view(torch.uint8).numpy().data)
        if expected:
            raise ValueError(f"not written: {', '.join(expected)}")
        file.flush()
        os.fsync(file.fileno())


def place(records: Sequence[TensorRecord], metadata: Mapping[str, str]) -> TensorPlacement:
    """The file of these tensors, widest types first, so that all are aligned. The header's length is that of its texts."""
    texts = {"format": "pt", **metadata}
    entries: dict[str, object] = {"__metadata__": dict(sorted(texts.items()))}  # readers may lose their order
    begins, end = {}, 0
    for record in sorted(records, key=lambda record: (-BITS[record.dtype], record.name)):
        begin, end = end, end + stored_bytes(record)
        begins[record.name] = begin
        entries[record.name] = {"dtype": record.dtype, "shape": list(record.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return TensorPlacement(header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end)


class SafetensorsFile:
    """An opened safetensors file of a build."""

    def __init__(self, path: Path) -> None:
        """Raises ArtifactError: not a whole safetensors file."""
        self.files = (path,)
        try:
            self._header = read_header(path)
        except SourceError as error:
            raise ArtifactError(f"{error}, or build the artifact again") from None

    def metadata(self) -> dict[str, str]:
        return self._header.metadata

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape by name."""
        return {name: (stored.dtype, stored.shape) for name, stored in self._header.tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        """A view of the mapped file (`mapping`). Raises ArtifactError: it is gone or has changed."""
        stored = self._header.tensors[name]
        dtype = torch_dtype(stored.dtype)
        data = mapped(stored.file.path, stored.file.size, stored.offset, stored.count * dtype.itemsize)
        return data.view(dtype).view(stored.shape)
