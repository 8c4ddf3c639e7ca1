"""safetensors files as a table of stored tensors, read piece by piece with plain file reads.

Not through safetensors' own `safe_open`: it maps the file, so that every page touched counts as resident memory, hands out whole
tensors only, and lets through what a checkpoint from anywhere must not bring in: headers of 100 MB. Plain reads
need one buffer, release the interpreter's lock and work from several threads. `safetensors_header` reads the headers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.errors import SourceError
from ideogram_q8.formats import safetensors_header as header
from ideogram_q8.formats.safetensors_header import SafetensorsHeader, TensorEntry
from ideogram_q8.numerics.dtypes import torch_dtype

_SMALL = 4096
"""Most bytes of a stored text, such as ComfyUI's markers."""


@dataclass(frozen=True)
class StoredTensor(TensorEntry):
    """A tensor in a file, whose elements can be read."""

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


def read_header(path: Path) -> SafetensorsHeader[StoredTensor]:
    """The header of one safetensors file, with tensors that can be read.

    Raises:
        SourceError: there is no such file, or it is not a whole safetensors file.
    """
    found = header.read_header(path)
    tensors = {e.name: StoredTensor(e.file, e.name, e.dtype, e.shape, e.offset) for e in found.tensors.values()}
    return SafetensorsHeader(tensors, found.metadata)
