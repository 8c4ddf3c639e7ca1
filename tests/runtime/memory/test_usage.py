"""Sizes come from headers and shapes; what cannot fit is refused before it is tried."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ideogram_q8.errors import ArtifactError, ResourceError
from ideogram_q8.machine.platforms import of
from ideogram_q8.runtime.memory import usage

GB = 10**9
INT8 = usage.Weights(transformers=2 * 9_902_000_000, text_encoder=8_200_000_000, vae=168_000_000)


NEEDED = usage.Activations(1 * GB, 2 * GB, 2 * GB)


def test_weight_bytes_leave_out_the_header(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.int8)}, tmp_path / "x.safetensors", {"format": "pt"})
    (tmp_path / "x.gguf").write_bytes(b"12345")
    assert usage.weight_bytes([tmp_path / "x.safetensors", tmp_path / "x.gguf"]) == 3 * 5 * 4 + 7 + 5


def test_weights_that_are_loaded_in_another_dtype_are_counted_in_it(tmp_path: Path) -> None:
    tensors = {
        "embedding": torch.zeros(6, dtype=torch.bfloat16),
        "scale": torch.zeros(5),
        "codes": torch.zeros(7, dtype=torch.int8),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    sizes = [usage.weight_bytes([tmp_path / "x.safetensors"], "", dtype) for dtype in (None, torch.bfloat16, torch.float32)]
    assert sizes == [12 + 20 + 7, 12 + 20 + 7, 24 + 20 + 7]


DEEP = pytest.param((1 << 20).to_bytes(8, "little") + b"[" * (1 << 20), id="nested too deep")


@pytest.mark.parametrize("content", [b"", b"\1\2", b"\xff" * 20, b"\2\0\0\0\0\0\0\0[]", b"\5\0\0\0\0\0\0\0{nope", DEEP])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.safetensors"):
        usage.weight_bytes([path])
    with pytest.raises(ArtifactError, match=r"y\.gguf"):
        usage.weight_bytes([tmp_path / "y.gguf"])


def test_shared_memory_counts_once() -> None:
    first, second = torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(8, 2, bias=False)
    second.weight = torch.nn.Parameter(first.weight[:2].detach())
    assert usage.module_bytes(first, second) == 8 * 4 * 4


def test_of_a_mapped_file_the_parts_that_are_used_count() -> None:
    """All of it is the storage of everything that was read from it."""
    file = torch.arange(1000, dtype=torch.uint8)
    module = torch.nn.Module()
    for name, part in {"a": file[100:300], "b": file[200:400], "c": file[250:260], "d": file[600:601]}.items():
        module.register_buffer(name, part)
    assert usage.module_bytes(module) == 301
    assert usage.module_bytes(torch.nn.Module()) == 0


def test_of_a_module_on_two_devices_the_part_on_one_counts() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(8, 2, bias=False, device="meta"))
    assert usage.module_bytes(module, device=torch.device("cpu")) == 8 * 4 * 4


def test_the_text_encoder_stays_only_where_there_is_room() -> None:
    small, large = (usage.predict(INT8, NEEDED, size * GB) for size in (24, 48))
    assert not small.keep_text_encoder and large.keep_text_encoder
    assert large.denoise_bytes - small.denoise_bytes == large.decode_bytes - small.decode_bytes == INT8.text_encoder
    assert small.peak_bytes == small.text_bytes == large.text_bytes


def test_what_cannot_fit_is_refused() -> None:
    needed = usage.predict(INT8, NEEDED, 48 * GB).peak_bytes
    cuda = torch.device("cuda")
    usage.check(needed, 48 * GB, "a picture", cuda)
    with pytest.raises(ResourceError, match=r"cuda has 10\.0 GB free, a picture needs about \d+\.\d GB: choose a smaller"):
        usage.check(needed, 10 * GB, "a picture", cuda)


@pytest.mark.parametrize(
    ("platform", "release", "total", "free", "expected"),
    [
        ("linux", "6.8.0-generic", 32, 20, 19),
        ("linux", "5.15.153.1-microsoft-standard-WSL2", 32, 20, 16),
        ("win32", "11", 32, 30, 16),
        ("win32", "11", 32, 10, 9),
        ("linux", "6.8.0-generic", 16, 0.5, 0),
    ],
)
def test_main_memory_that_can_be_pinned(
    monkeypatch: pytest.MonkeyPatch, platform: str, release: str, total: float, free: float, expected: float
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    monkeypatch.setattr(usage.machine, "here", of(platform))
    monkeypatch.setattr(usage, "host_bytes", lambda: (total * GB, free * GB, 0))
    assert usage.pinnable_bytes() == expected * GB
    monkeypatch.setattr(usage, "host_bytes", lambda: (0, 0, 0))
    assert usage.pinnable_bytes() == sys.maxsize  # not known


@pytest.mark.parametrize(("platform", "expected"), [("win32", [(0.75, 0)]), ("linux", [])])
def test_windows_does_not_go_on_in_main_memory(
    monkeypatch: pytest.MonkeyPatch, platform: str, expected: list[tuple[float, int]]
) -> None:
    """A card of 24 GB of which others hold 6, and torch 2 already."""
    given: list[tuple[float, int]] = []
    monkeypatch.setattr(usage.machine, "here", of(platform))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (16 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 * GB)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, index: given.append((fraction, index)))
    usage.keep_off_main_memory(torch.device("cuda"))
    usage.keep_off_main_memory(torch.device("cpu"))
    assert given == expected


def test_a_card_of_24_gib_has_less_than_that() -> None:
    """As torch's messages have it of RTX 3090s and 4090s: 23.48 to 23.69 GiB, of which the context takes 0.25 to 0.30."""
    for gib, (least, most) in {24: (23.48, 23.69), 16: (15.6, 15.99), 12: (11.7, 11.99), 8: (7.75, 7.79)}.items():
        assert least * 2**30 <= usage.CARDS[gib] <= most * 2**30
        assert usage.room_of(gib) == usage.CARDS[gib] - usage.CONTEXT - usage.RESERVED
    assert 0.25 * 2**30 <= usage.CONTEXT <= 0.30 * 2**30


def test_the_peak_follows_what_is_allocated() -> None:
    cpu = torch.device("cpu")
    assert usage.available_bytes(cpu) > 0
    usage.reset_peak(cpu)
    before = usage.peak_bytes(cpu)
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert usage.peak_bytes(cpu) >= before
    assert block.sum() > 0
    assert usage.peak_bytes(cpu) > 64 * 2**20
