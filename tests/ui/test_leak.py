"""Changing the variant gives everything back. The full fifty changes: `python -m tests.ui.leak`."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from ideogram_q8.captions import to_caption
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.ui.engine.streaming import Emit, stream
from ideogram_q8.ui.engine.studio import Studio
from tests.ui.leak import LARGEST_GROWTH

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_resident_memory_stays_within_five_percent() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.leak", "--switches", "4"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["growth"] <= LARGEST_GROWTH


def test_nothing_holds_the_model_that_was_there_before(tmp_path: Path) -> None:
    studio = Studio("pocket", tmp_path / "outputs", tmp_path / "cache")
    request = Request(to_caption("a red heart on a white background"), 1, "custom-2-g3", 64, 64)
    list(studio.paint("fp8", request))
    assert studio._model is not None
    networks = [weakref.ref(each) for each in (*studio._model.branches.values(), studio._model.vae)]
    list(studio.paint("q8_0", request))
    gc.collect()

    def drop(emit: Emit[int]) -> None:
        emit(workspace.held_bytes())
        studio._drop()
        emit(workspace.held_bytes())

    held, left = stream(drop)  # in the thread that painted
    assert held == left == 0  # decoding gave the workspace back already
    assert [network() for network in networks] == [None] * 3
