"""Phases whose children do what a card may do to them, importable by a fresh process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def measures(setting, report):
    report.attempts([("a", lambda: {"value": 1.5}), ("b", lambda: "needs CUDA"), ("c", lambda: {"wrong": "2 of 3"})])


def raises(setting, report):
    report.attempts([("a", dict), ("b", lambda: 1 / 0), ("c", dict)])


def lacks_a_library(setting, report):
    import a_library_that_nobody_has  # noqa: F401


def dies(setting, report):
    """The first time it comes to b, as a segmentation fault ends a process."""
    report.attempts([("a", dict), ("b", lambda: os._exit(11)), ("c", dict)])


def is_late(setting, report):
    """And has started a process of its own, which must not outlive it."""
    report.plan(["a", "b"])
    report.add("a", {})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (setting.folder / "grandchild").write_text(str(child.pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a library that is stuck in a driver
    time.sleep(600)


def loses_the_device(setting, report):
    """Twice: each fault costs the measurement that made it, no other."""
    from ideogram_q8.bench.card import report as module

    def lost():
        raise module.DeviceLostError("an illegal memory access was encountered")

    module._check_device = lost
    report.attempts([("a", dict), ("b", lambda: 1 / 0), ("c", lambda: 1 / 0), ("d", dict)])
