"""What makes a benchmark of a tiny model last no longer than its arithmetic."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Samples of one call, peaks of small products, small pools, nothing compiled; one thread, since others run beside."""
    import torch

    from ideogram_q8.bench import machine, timing
    from ideogram_q8.bench.linear import random_weights
    from ideogram_q8.bench.picture import denoise, own

    monkeypatch.setattr(timing, "LEAST", 0.0)
    monkeypatch.setattr(machine, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(machine, "_COPY_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr(own, "_PASSES", 1)
    monkeypatch.setattr(random_weights, "_VALUES", 1 << 15)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(denoise.gc, "collect", lambda: None)  # walks all that other tests left behind, each time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
