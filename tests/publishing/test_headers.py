"""A weight file is published only if its header, its size and the manifest agree; nothing it says makes the reader hang or grow."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import Manifest, TensorRecord
from ideogram_q8.publishing.weight_headers import check_header

TENSORS = (TensorRecord("a", (2, 3), "I8", "w8a8"), TensorRecord("b", (4,), "F32", "bf16"))
HEADER = {
    "a": {"dtype": "I8", "shape": [2, 3], "data_offsets": [0, 6]},
    "b": {"dtype": "F32", "shape": [4], "data_offsets": [6, 22]},
}


def safetensors(folder: Path, header: object, data: int = 22) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return path


def test_real_builds_pass(built: dict[str, Path]) -> None:
    seen = set()
    for folder in built.values():
        manifest = Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
        for file in manifest.files:
            check_header(folder / file.path, manifest.tensors[file.path])
            seen.add(Path(file.path).suffix)
    assert seen == {".safetensors", ".gguf"}


def test_a_sound_file_passes(tmp_path: Path) -> None:
    check_header(safetensors(tmp_path, {"__metadata__": {"format": "pt"}, **HEADER}), TENSORS)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": HEADER["a"]}, "its header describes"),
        ({**HEADER, "b": {**HEADER["b"], "data_offsets": [7, 23]}}, "a hole or an overlap at byte 6"),
        ({**HEADER, "b": {**HEADER["b"], "data_offsets": [5, 21]}}, "a hole or an overlap at byte 5"),
        ({**HEADER, "b": {**HEADER["b"], "data_offsets": [6, 21]}}, "'b' is not that of a tensor"),
        ({**HEADER, "b": {**HEADER["b"], "data_offsets": [6]}}, "'b' is not that of a tensor"),
        ({**HEADER, "b": {**HEADER["b"], "dtype": "F99"}}, "'b' is not that of a tensor"),
        ({**HEADER, "b": {**HEADER["b"], "shape": [-4]}}, "'b' is not that of a tensor"),
        (
            {**HEADER, "b": {**HEADER["b"], "shape": [2, 2]}},
            r"is \(\(2, 2\), 'F32'\) in its header, \(\(4,\), 'F32'\) in the manifest",
        ),
        ({"a": HEADER["a"], "c": HEADER["b"]}, "'b' is missing from its header"),
        (b"[]", "not a JSON object"),
        (b"{", "its header's length is 1"),
        (b"{ ", "not valid JSON"),
        (b'{"a": 1, "a": 2}', "given twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xff", "cannot be read .*its header is not text"),
    ],
)
def test_what_is_refused(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(PublishError, match=message):
        check_header(safetensors(tmp_path, header), TENSORS)


def test_sizes_are_limited_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + bytes(8))
    with pytest.raises(PublishError, match=f"its header's length is {1 << 60}, at most 8 fit"):
        check_header(path, TENSORS)
    path = tmp_path / "x.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 0))
    with pytest.raises(PublishError, match=f"lists {1 << 60} tensors, at most 16384 are read"):
        check_header(path, TENSORS)
    path.write_bytes(struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 60))
    with pytest.raises(PublishError, match="its header ends early"):
        check_header(path, TENSORS)


def test_a_name_that_says_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"")
    with pytest.raises(PublishError, match=r"ends in \.bin, expected \.safetensors or \.gguf"):
        check_header(path, TENSORS)


@pytest.mark.parametrize("scheme", ["q8_0", "int8"])
def test_a_flipped_byte_of_a_header_is_refused_or_changes_nothing_that_counts(
    built: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    manifest = Manifest.from_json((built[scheme] / "manifest.json").read_text(encoding="utf-8"))
    record = manifest.files[0]
    content = bytearray((built[scheme] / record.path).read_bytes())
    path, chosen, refused = tmp_path / Path(record.path).name, random.Random(5), 0
    for _ in range(40):
        spoiled = bytearray(content)
        spoiled[chosen.randrange(2000)] ^= 1 << chosen.randrange(8)
        path.write_bytes(spoiled)
        try:
            check_header(path, manifest.tensors[record.path])
        except PublishError:
            refused += 1
    assert refused > 10  # the rest are metadata, which say nothing of tensors
    path.write_bytes(content[:1000])
    with pytest.raises(PublishError):
        check_header(path, manifest.tensors[record.path])
