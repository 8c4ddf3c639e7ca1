"""How much memory torch's own CPU allocator has given out: exact, and on one thread the same in every run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


@dataclass(frozen=True)
class Live:
    """Bytes beyond what was there before: the most that were alive at once, and those that still are at the end."""

    most: int
    kept: int


def watch(work: Callable[[], T]) -> tuple[T, Live]:
    """What `work` gives, and the tensors alive while it runs. Memory that other libraries take is not seen."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler prints that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        value = work()
    assert found.profiler is not None and found.profiler.kineto_results is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return value, Live(most, live)
