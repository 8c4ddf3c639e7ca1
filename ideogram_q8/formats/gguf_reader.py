"""GGUF files opened, one or all shards of one: values stay on disk, mapped (`mapping`), until they are used.

Shards are named as llama.cpp does, `NAME-00001-of-00003.gguf`; the first has the metadata, each says which one it is
(`split.no`, `split.count`, `split.tensors.count` in llama.cpp's gguf-split), and any of them opens all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.gguf_header import GgufHeader, GgufTensor, Value, read_header
from ideogram_q8.formats.mapping import mapped
from ideogram_q8.numerics.dtypes import torch_dtype

_SHARD = re.compile(r"(?s)(.+)-(\d{5})-of-(\d{5})\.gguf")
_SHARD_LIMIT = 1000
_FLOATS = ("F32", "F16", "BF16")


class GgufFile:
    """An opened GGUF file, or the shards of one as one.

    Attributes:
        files: the paths of all its files, in order.
        values: what its header says beside the tensors.
        stored: its tensors by name.
    """

    def __init__(self, path: Path) -> None:
        """Raises ArtifactError: not a whole GGUF file, or a shard is missing or another one's."""
        headers = _shards(read_header(path))
        self.files = tuple(header.path for header in headers)
        self.values: Mapping[str, Value] = headers[0].values
        self.stored: dict[str, GgufTensor] = {}
        for header in headers:
            for tensor in header.tensors:
                if tensor.name in self.stored:
                    other = self.stored[tensor.name].path.name
                    raise ArtifactError(f"{header.path}: tensor {tensor.name} is in {other} too; download the shards again")
                self.stored[tensor.name] = tensor
        self._sizes = {header.path: header.size for header in headers}

    def metadata(self) -> dict[str, str]:
        """The text values of its header."""
        return {key: value for key, value in self.values.items() if isinstance(value, str)}

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape by name, in torch's order of dimensions."""
        return {name: (tensor.dtype, tensor.shape) for name, tensor in self.stored.items()}

    def read(self, name: str) -> torch.Tensor:
        """float32, float16 or bfloat16 values; uint8 [..., bytes of a row] for blocks. A view of the mapped file.

        Raises:
            ArtifactError: the file is gone, has changed since it was opened, or cannot be mapped.
        """
        tensor = self.stored[name]
        data = mapped(tensor.path, self._sizes[tensor.path], tensor.offset, tensor.nbytes)
        if tensor.dtype in _FLOATS:
            return data.view(torch_dtype(tensor.dtype)).view(tensor.shape)
        *rows, width = tensor.shape
        return data.view(*rows, tensor.block.row_bytes(width))


def shard_paths(path: Path) -> tuple[Path, ...]:
    """All shards of the file that `path` is a shard of, by their names; `path` alone where its name is no shard's.

    Raises:
        ArtifactError: the name counts more shards than are read.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match[3])
    if not 1 <= int(match[2]) <= count <= _SHARD_LIMIT:
        raise ArtifactError(f"{path}: the name is of shard {match[2]} of {count}, expected 1 to {_SHARD_LIMIT}; rename it")
    return tuple(path.with_name(f"{match[1]}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1))


def _shards(opened: GgufHeader) -> tuple[GgufHeader, ...]:
    """All shards in order, of which one is open."""
    paths = shard_paths(opened.path)
    count = opened.values.get("split.count", 1)
    if count in (0, 1) and len(paths) == 1:
        return (opened,)
    if count != len(paths):
        raise ArtifactError(
            f"{opened.path} is one of {count} shards, and its name is that of one of {len(paths)}; "
            f"expected a name like NAME-00001-of-{count if isinstance(count, int) else 0:05}.gguf: undo the renaming"
        )
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ArtifactError(f"{opened.path} is one of {count} shards, and {', '.join(missing[:5])} is missing; download it too")
    headers = tuple(opened if path == opened.path else read_header(path) for path in paths)
    for index, header in enumerate(headers):
        if (header.values.get("split.no"), header.values.get("split.count")) != (index, count):
            got = f"{header.values.get('split.no')} of {header.values.get('split.count')}"
            raise ArtifactError(f"{header.path} says that it is shard {got}, counted from 0; its name says {index} of {count}")
    found, expected = sum(len(header.tensors) for header in headers), opened.values.get("split.tensors.count")
    if found != expected:
        raise ArtifactError(f"{opened.path}: its shards have {found} tensors, {expected} are expected; download them again")
    return headers
