"""GGUF as a stream, by gguf-py: Linears in ggml blocks or BF16, everything else F32, official names.

ComfyUI-GGUF and stable-diffusion.cpp read vectors as F32, and bfloat16 loses nothing in it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch

from ideogram_q8.artifact.placement import Placement
from ideogram_q8.errors import ArtifactError
from ideogram_q8.manifest import TensorRecord

ARCHITECTURE = "ideogram4"
_FILE_TYPES: Mapping[str, gguf.LlamaFileType] = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_K": gguf.LlamaFileType.MOSTLY_Q4_K_S,
}

_SCALAR_BYTES: Mapping[int, int] = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""By GGUF's numbers of value types (ggml's docs/gguf.md); 8 is a string, 9 a list."""


def stored_bytes(record: TensorRecord) -> int:
    """Bytes of a tensor's data."""
    block_size, type_size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[record.dtype]]
    return math.prod(record.shape) // block_size * type_size


def place(records: Sequence[TensorRecord], metadata: Mapping[str, str]) -> Placement:
    """The file of these tensors in the order of `records`, each at a multiple of GGUF's alignment, the end too."""
    header = _header(records, metadata)
    offsets, end = {}, len(header)
    for record in records:
        offsets[record.name] = end
        end += _padded(stored_bytes(record))
    return Placement(header, offsets, end)


def _header(records: Sequence[TensorRecord], metadata: Mapping[str, str]) -> bytes:
    """By gguf-py, which writes it to a file only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURE)
        try:
            _describe(writer, records, metadata)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        header = path.read_bytes()
    return header.ljust(_padded(len(header)), b"\0")


def _padded(size: int) -> int:
    return gguf.GGUFWriter.ggml_pad(size, gguf.GGUF_DEFAULT_ALIGNMENT)


def _describe(writer: gguf.GGUFWriter, records: Sequence[TensorRecord], metadata: Mapping[str, str]) -> None:
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    file_type = next((_FILE_TYPES[record.dtype] for record in records if record.dtype in _FILE_TYPES), None)
    if file_type is not None:
        writer.add_file_type(file_type)
    for key, value in metadata.items():
        writer.add_string(key, value)
    for record in records:
        kind = gguf.GGMLQuantizationType[record.dtype]
        # any dtype but uint8 makes gguf-py take the shape as that of the values
        writer.add_tensor_info(record.name, record.shape, np.dtype(np.int8), stored_bytes(record), raw_dtype=kind)


class GgufFile:
    """An opened GGUF file of this model; values stay on disk until they are used."""

    def __init__(self, path: Path) -> None:
        """Raises ArtifactError: not a whole GGUF file, or of another architecture."""
        try:
            _refuse_lists(path)
            with np.errstate(over="ignore"):  # offsets that no file has wrap around, and then do not fit the tensor
                self._reader = gguf.GGUFReader(path, "c")  # copy on write: torch wants writable memory
        except (ValueError, IndexError, KeyError, OverflowError, OSError) as error:
            raise ArtifactError(f"{path} is not a whole GGUF file: {error}; build the artifact again") from None
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        architecture = self._string("general.architecture")
        if architecture != ARCHITECTURE:
            raise ArtifactError(f"{path}: general.architecture is {architecture!r}, expected {ARCHITECTURE!r}")

    def metadata(self) -> dict[str, str]:
        """The text values of its header."""
        values = {key: self._string(key) for key in self._reader.fields}
        return {key: value for key, value in values.items() if value is not None}

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape by name, in torch's order of dimensions."""
        return {name: (t.tensor_type.name, tuple(reversed(t.shape.tolist()))) for name, t in self._tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        """float32 or bfloat16 values; uint8 [N, bytes of a row] for blocks."""
        stored = self._tensors[name]
        data = torch.from_numpy(stored.data)
        return data.view(torch.bfloat16) if stored.tensor_type == gguf.GGMLQuantizationType.BF16 else data

    def _string(self, key: str) -> str | None:
        field = self._reader.get_field(key)
        if field is None or field.types != [gguf.GGUFValueType.STRING]:
            return None
        return str(bytes(field.parts[-1]), "utf-8", "replace")


def _refuse_lists(path: Path) -> None:
    """Walks the header's key-value pairs, of which no file of ours has a list: gguf-py reads one as long as it claims to be.

    Raises:
        ValueError: there is a list, or the header ends early.
    """
    with path.open("rb") as file:

        def number(size: int) -> int:
            data = file.read(size)
            if len(data) < size:
                raise ValueError("its header ends early")
            return int.from_bytes(data, "little")

        file.seek(16)  # magic, version, number of tensors
        for _ in range(number(8)):
            file.seek(number(8), os.SEEK_CUR)
            kind = number(4)
            if kind != gguf.GGUFValueType.STRING and kind not in _SCALAR_BYTES:
                raise ValueError(f"its header has a value of type {kind}, expected a text or a number")
            file.seek(number(8) if kind == gguf.GGUFValueType.STRING else _SCALAR_BYTES[kind], os.SEEK_CUR)
