"""3 GB through the whole of `push`, sparse on both sides: nothing is held in memory, nothing takes room on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import resource
import struct
from pathlib import Path

import pytest

from ideogram_q8.formats.manifest import FileRecord, TensorRecord
from ideogram_q8.publishing.pushing.receipts import Receipt
from tests.hub.scene import REPO, command
from tests.hub.server import Hub
from tests.publishing.example import NAMES, manifest, report_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=")]  # the client's own call of its HTTP library
SIDE = 38_730
"""Of a square int8 weight of 1.5 GB."""
TOTAL = 3_000_000_000
PIECE = 1 << 24


def write_sparse(path: Path) -> tuple[int, str]:
    """A safetensors file whose one tensor is all zeros and takes no room; its size and sha256."""
    entry = {"dtype": "I8", "shape": [SIDE, SIDE], "data_offsets": [0, SIDE * SIDE]}
    header = json.dumps({"__metadata__": {"file": path.name}, "x.weight": entry}).encode()
    start = struct.pack("<Q", len(header)) + header
    size = len(start) + SIDE * SIDE
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    digest = hashlib.sha256(start)
    for begin in range(0, SIDE * SIDE, PIECE):
        digest.update(bytes(min(PIECE, SIDE * SIDE - begin)))
    return size, digest.hexdigest()


def on_disk(folder: Path) -> int:
    """Bytes that the files of a folder really take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test_three_gigabytes_are_streamed(hub: Hub, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    files = tuple(FileRecord(name, *write_sparse(build / name), branch) for branch, name in NAMES.items())
    tensors = dict.fromkeys(NAMES.values(), (TensorRecord("x.weight", (SIDE, SIDE), "I8", "w8a8"),))
    large = dataclasses.replace(manifest(), files=files, tensors=tensors)
    (build / "manifest.json").write_text(large.to_json(), encoding="utf-8")
    (build / "report.json").write_text(report_of(large).to_json(), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = command("push", build, "--repo", REPO, "--json")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert result.code == 0, result.err
    size = sum(file.size for file in files)
    assert hub.received == size > TOTAL - 2**20
    held = {file.path: (file.size, file.sha256) for file in Receipt.from_json(result.out, "receipt").files}
    assert held.items() >= {file.path: (file.size, file.sha256) for file in files}.items()
    largest, other = sorted(files, key=lambda file: -file.size)
    said = result.err.splitlines()
    assert f"sending {largest.path}; 0 bytes of 3.00 GB sent" in said
    assert any(re.fullmatch(rf"sending {other.path}; 1.50 GB of 3.00 GB sent, .*B/s, \d+ s left", line) for line in said)
    assert re.fullmatch(r"committing; 3.00 GB of 3.00 GB sent, [\d.]+ [MG]B/s", said[-1])
    assert grown < 100e6 and on_disk(tmp_path) < 100e6
