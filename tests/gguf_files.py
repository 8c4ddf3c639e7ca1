"""GGUF files for tests, byte by byte or by gguf-py: what others write, and what no one should."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch

from ideogram_q8.numerics import ggml
from ideogram_q8.sources import BranchReader

TYPES = {**ggml.BLOCKS, **ggml.FLOATS}
TEXT, LIST, U32, I32, U16 = 8, 9, 4, 5, 2


def text(value: str | bytes) -> bytes:
    """A string of the header."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    """A key-value pair."""
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int, kind: int = U32) -> bytes:
    return entry(key, kind, struct.pack({U32: "<I", I32: "<i", U16: "<H"}[kind], value))


def tensor(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """A tensor's entry; `shape` in torch's order."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)


def assemble(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    head: bytes = b"GGUF\x03\0\0\0",
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; `counts` (tensors, entries) replaces the true ones."""
    found = head + struct.pack("<QQ", *(counts or (len(tensors), len(entries)))) + b"".join((*entries, *tensors))
    return found.ljust(-(-len(found) // alignment) * alignment, b"\0") + data


def write_gguf(path: Path, tensors: Mapping[str, tuple[torch.Tensor, str]], architecture: str | None = None) -> Path:
    """Float tensors [.., K] by name, each encoded as a type of `numerics.ggml`, written by gguf-py; without any key as on request."""
    writer = gguf.GGUFWriter(path, architecture or "")
    if architecture is None:
        writer.kv_data[0].clear()  # as stable-diffusion.cpp's, whose files have no key at all
    for name, (values, kind) in tensors.items():
        data = ggml.encode(values.float(), TYPES[kind]).numpy()
        raw = gguf.GGMLQuantizationType(TYPES[kind].gguf_type)
        if kind == "f32":
            writer.add_tensor(name, np.ascontiguousarray(values.float().numpy()))
        else:
            writer.add_tensor(name, data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_branch(
    path: Path, reader: BranchReader, kinds: Sequence[str], prefix: str = "", architecture: str | None = None
) -> dict[str, tuple[torch.Tensor, str]]:
    """A transformer as others store it: vectors F32, matrices in turn of `kinds`, BF16 where a width does not fit. Returns what it has."""
    found: dict[str, tuple[torch.Tensor, str]] = {}
    for index, name in enumerate(reader.names):
        values = reader.read(name)
        kind = kinds[index % len(kinds)] if values.dim() == 2 else "f32"
        found[name] = (values, kind if values.shape[-1] % TYPES[kind].block_size == 0 else "bf16")
    write_gguf(path, {f"{prefix}{name}": value for name, value in found.items()}, architecture)
    return found
