"""How busy other programs keep the machine, without which no time means much."""

from __future__ import annotations

import time

from ideogram_q8.machine import platforms as machine


class OtherPrograms:
    """How busy everything but this process keeps the CPUs that this process may use, from the time it is made."""

    def __init__(self) -> None:
        self._start = _clocks()

    def mean_cpus(self) -> float | None:
        """CPUs on average since then, 0 or more; None where the system does not tell (`System.busy_seconds`)."""
        now = _clocks()
        if self._start is None or now is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / wall)


def _clocks() -> tuple[float, float, float] | None:
    """Seconds of CPU time used by all programs, of CPU time used by this process, and of wall time."""
    busy = machine.here.busy_seconds()
    return None if busy is None else (busy, time.process_time(), time.perf_counter())
