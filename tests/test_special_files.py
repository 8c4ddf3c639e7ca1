"""A FIFO, a device or a socket in a file's place is refused at once: opening one may wait for ever."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ideogram_q8.bench import results
from ideogram_q8.bench.card import lines
from ideogram_q8.captions import calibration as captions
from ideogram_q8.commands import report
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.formats import png
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.publishing.cards import cards
from ideogram_q8.publishing.folder import regular_file
from ideogram_q8.publishing.pushing import receipts
from ideogram_q8.publishing.space.space import assemble
from ideogram_q8.publishing.weight_headers import check_header
from ideogram_q8.recipes import statistics
from ideogram_q8.runtime.generation import preview
from ideogram_q8.runtime.loading import networks

OPENERS: dict[str, Callable[[Path], object]] = {
    "captions.txt": captions.read_captions,
    "stats.safetensors": statistics.read,
    "report.json": report.read,
    "pocket-report.json": lambda path: cards.rendered(path.parent, "ideogram-q8/pocket"),
    "manifests/pocket-int8.json": lambda path: cards.manifests_in(path.parents[1], "pocket"),
    "int8/manifest.json": lambda path: cards.read_builds(path.parents[1]),
    "weights.safetensors": lambda path: check_header(path, ()),
    "any": lambda path: regular_file(path.parent, path.name, "make it"),
    "space/space.json": lambda path: assemble(path.parent, "cpu-basic", []),
    "vae/config.json": lambda path: networks.load_vae(path.parent, CPU, torch.float32),
    "vae/diffusion_pytorch_model.safetensors": lambda path: networks.load_vae(
        _with(path, WEIGHTS / "vae" / "config.json"), CPU, torch.float32
    ),
    "tokenizer/tokenizer.json": lambda path: networks.load_tokenizer(path.parent),
    "tokenizer/tokenizer_config.json": lambda path: networks.load_tokenizer(
        _with(path, WEIGHTS / "tokenizer" / "tokenizer.json")
    ),
    "taef2.safetensors": lambda path: preview._read(path, {}),
    "result.json": results.read,
    "results.jsonl": lines.read,
    "picture.png": png.read_metadata,
}
CPU = torch.device("cpu")


def _with(path: Path, other: Path) -> Path:
    """The folder of `path`, which has a copy of `other` too."""
    shutil.copy(other, path.parent)
    return path.parent


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Ends a test that waits, instead of waiting with it."""

    def stop(*_: object) -> None:
        raise TimeoutError("it waits for somebody to write into a FIFO")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def in_a_socket(path: Path) -> None:
    os.symlink(os.environ["SOCKET"], path)


@pytest.mark.parametrize("make", [fifo, in_a_socket])
@pytest.mark.parametrize("name", OPENERS)
def test_special_files_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s")
        monkeypatch.setenv("SOCKET", str(tmp_path / "s"))
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True)
        make(path)
        with pytest.raises(IdeogramQ8Error):
            OPENERS[name](path)


def test_a_receipt_that_is_none_is_not_read(tmp_path: Path) -> None:
    fifo(tmp_path / "x.receipt.json")
    assert receipts.read_receipt(tmp_path / "x.receipt.json") is None
