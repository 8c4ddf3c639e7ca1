"""What was deleted can be had back for a while, and not for longer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.engine.bin import KEEP_SECONDS, Bin


def test_a_deleted_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "a.png").write_bytes(b"a")
    kept = Bin(outputs)
    kept.put("a.png")
    assert list(outputs.iterdir()) == []
    kept.take_back("a.png")
    assert (outputs / "a.png").read_bytes() == b"a"
    kept.put("b.png")  # which is not there
    with pytest.raises(RequestError, match="gone"):
        kept.take_back("b.png")


def test_an_hour_later_it_is_gone(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    kept = Bin(outputs)
    for name in ("old.png", "new.png"):
        (outputs / name).write_bytes(b"x")
        os.utime(outputs / name, (0, 0))  # painted long ago: what counts is when it was deleted
        kept.put(name)
    (binned,) = [path for path in tmp_path.iterdir() if path != outputs]
    past = time.time() - KEEP_SECONDS - 1
    os.utime(binned / "old.png", (past, past))
    kept.put("none.png")
    assert [path.name for path in binned.iterdir()] == ["new.png"]
