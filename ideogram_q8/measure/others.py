"""How busy other programs keep the machine, without which no time means much."""

from __future__ import annotations

import os
import time
from pathlib import Path

_BUSY = slice(0, 3), slice(5, 8)
"""Fields of a line of /proc/stat: user, nice, system; irq, softirq, steal. Left out: idle, iowait, guests (within user)."""


class OtherPrograms:
    """How busy everything but this process keeps the CPUs that this process may use, from the time it is made."""

    def __init__(self) -> None:
        self._start = _clocks()

    def mean_cpus(self) -> float | None:
        """CPUs on average since then, 0 or more; None without Linux's /proc/stat. Its clock ticks 100 times a second."""
        now = _clocks()
        if self._start is None or now is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / wall)


def _clocks() -> tuple[float, float, float] | None:
    """Seconds of CPU time used by all programs, of CPU time used by this process, and of wall time."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        usable = {f"cpu{i}" for i in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    lines_of_cpus = [words[1:] for words in (line.split() for line in lines) if words and words[0] in usable]
    ticks = sum(int(field) for fields in lines_of_cpus for part in _BUSY for field in fields[part])
    return ticks / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()
