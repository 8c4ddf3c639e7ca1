"""How much memory torch's own CPU allocator has given out at most: exact, and the same in every run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak(work: Callable[[], object]) -> int:
    """The largest sum of bytes allocated and not yet freed while `work` runs, beyond what was there before.

    On one thread: convolutions of small pictures take scratch for each.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            kept = work()
    finally:
        torch.set_num_threads(threads)
    assert found.profiler is not None and found.profiler.kineto_results is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    del kept
    return most
