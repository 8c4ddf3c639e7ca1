"""What a variant of `bench denoise` takes at most, in the terms in which `budget` predicts it: tensors, not the process around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.runtime.memory import usage

T = TypeVar("T")


def name(device: torch.device) -> str:
    """What a device's memory is measured by."""
    if device.type == "cuda":
        return "the most that torch's allocator had given out on the card in a step"
    return "tensors alive in torch's allocator: those built, and the most in a step"


class Meter:
    """Measures memory of one variant, from before it is built. `peak` counts the variant's own bytes, not those of the pool."""

    def __init__(self, pool: Pool) -> None:
        self.peak = 0
        self._pool, self._pooled, self._cuda = pool, pool.held_bytes, pool.device.type == "cuda"
        self._before = torch.cuda.memory_allocated(pool.device) if self._cuda else 0
        self._built = 0

    def build(self, work: Callable[[], T]) -> T:
        """Runs what builds the variant, whose own peak does not count."""
        if self._cuda:
            return work()
        value, live = usage.watch_live(work)
        self._built = live.kept - (self._pool.held_bytes - self._pooled)
        return value

    def first_step(self, work: Callable[[], T], compiles: bool) -> T:
        """Runs the step that is not timed: the one that counts on a CPU, where to count takes time, unless it compiles."""
        return work() if compiles and not self._cuda else self._count(work)

    def steps(self, work: Callable[[], T]) -> T:
        """Runs the steps that are timed: those that count on CUDA, and where none was counted."""
        return self._count(work) if self._cuda or not self.peak else work()

    def _count(self, work: Callable[[], T]) -> T:
        if self._cuda:
            usage.reset_peak(self._pool.device)
            value = work()
            self.peak = usage.peak_bytes(self._pool.device) - self._before - (self._pool.held_bytes - self._pooled)
        else:
            value, live = usage.watch_live(work)
            self.peak = self._built + live.most
        return value
