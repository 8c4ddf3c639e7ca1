"""How long a call takes, on a device that may run behind the program that asks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

LEAST = 0.02
"""Seconds of one sample: shorter calls are repeated within it, so that launching and waiting do not count."""
_MOST_CALLS = 1000


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: `samples` in the order in which they were taken, and their median."""

    median: float
    fastest: float
    slowest: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Timing:
        """Of one sample or more."""
        return cls(statistics.median(samples), min(samples), max(samples), tuple(samples))


def synchronize(device: torch.device) -> None:
    """Waits for all work that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Of one call, the mean over `calls` of them back to back."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def calls_for(function: Callable[[], object], device: torch.device, least: float = LEAST) -> int:
    """How many calls make a sample of `least` seconds; the first call, which may compile, does not count."""
    first = seconds(function, device)
    if first > 10 * least:
        return 1
    return min(_MOST_CALLS, max(1, round(least / max(seconds(function, device), 1e-9))))
