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
        """Timing from one sample or more, in seconds."""
        return cls(statistics.median(samples), min(samples), max(samples), tuple(samples))


def synchronize(device: torch.device) -> None:
    """Waits for all work that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    function: Callable[[], object],
    device: torch.device,
    calls: int = 1,
    meanwhile: Callable[[], object] = lambda: None,
) -> float:
    """Seconds of one call, the mean over `calls` of them back to back.

    Args:
        meanwhile: called when all of them are queued, before the device is waited for: it counts only as far as it outlasts them.
    """
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    meanwhile()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def calls_for(function: Callable[[], object], device: torch.device) -> int:
    """How many calls make a sample of LEAST seconds; the first call, which may compile, does not count."""
    if is_slow(seconds(function, device), device):
        return 1  # a second call would take as long
    return min(_MOST_CALLS, max(1, round(LEAST / max(seconds(function, device), 1e-9))))


def is_slow(taken: float, device: torch.device) -> bool:
    """Whether a call takes so long that repeating it buys nothing: on a CPU, where no first call compiles for that long."""
    return device.type == "cpu" and taken > 10 * LEAST


def typical(function: Callable[[], object], device: torch.device, passes: int) -> float:
    """The median of so many samples, of one where a call is slow."""
    calls = calls_for(function, device)
    first = seconds(function, device, calls)
    if is_slow(first, device):
        return first
    return Timing.of([first, *(seconds(function, device, calls) for _ in range(passes - 1))]).median
