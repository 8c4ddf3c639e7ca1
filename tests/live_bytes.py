"""What a piece of work takes at most, the same in every run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ideogram_q8.runtime.memory import usage


def peak(work: Callable[[], object]) -> int:
    """`Live.most` on one thread: convolutions of small pictures take scratch for each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return usage.watch_live(work)[1].most
    finally:
        torch.set_num_threads(threads)
