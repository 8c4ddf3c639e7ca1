"""Changing the variant again and again takes no more memory in the end than at the beginning."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, steps
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_source

pytestmark = pytest.mark.slow

STATUS = Path("/proc/self/status")
SWITCHES, SETTLED = 50, 8
"""A model of the pocket has 10 MB: one that stays behind at each switch would double what is resident."""


def resident_kilobytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc/self/status")
def test_many_switches_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    source = open_source("pocket")
    quantize(source, choose("int8", source.config), tmp_path / "int8")
    request = Request("a red star", 1, "turbo-12", 64, 64)
    before = 0
    for i in range(SWITCHES):
        model = load("pocket" if i % 2 else tmp_path / "int8")
        next(steps(model, request))
        del model
        gc.collect()
        if i == SETTLED:
            before = resident_kilobytes()
    assert resident_kilobytes() < 1.05 * before
