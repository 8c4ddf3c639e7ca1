"""Changing the variant gives everything back. The full fifty changes: `python -m tests.ui.leak`."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from ideogram_q8.caption import to_caption
from ideogram_q8.generation import Request
from ideogram_q8.ui.studio import Studio
from tests.ui.leak import LARGEST_GROWTH, switch


def test_resident_memory_stays_within_five_percent(tmp_path: Path) -> None:
    found = switch(Studio("pocket", tmp_path / "outputs", tmp_path / "cache"), 4, ["fp8", "int8"])
    assert found["growth"] <= LARGEST_GROWTH, found


def test_nothing_holds_the_model_that_was_there_before(tmp_path: Path) -> None:
    studio = Studio("pocket", tmp_path / "outputs", tmp_path / "cache")
    request = Request(to_caption("a red heart on a white background"), 1, "custom-2-g3", 64, 64)
    list(studio.paint("fp8", request))
    assert studio._model is not None
    networks = [weakref.ref(each) for each in (*studio._model.branches.values(), studio._model.vae)]
    list(studio.paint("int8", request))
    gc.collect()
    assert [network() for network in networks] == [None] * 3
