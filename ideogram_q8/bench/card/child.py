"""A phase in a process of its own, whose output goes to a file beside card.jsonl."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.bench.card import lines
from ideogram_q8.bench.card.phases import Phase
from ideogram_q8.bench.card.report import DeviceLostError, PhaseReport, outcome
from ideogram_q8.bench.card.setting import CardSetting

LOST = 3
"""The exit code after DeviceLostError."""
_ALONE = 60
"""Seconds beyond its limit after which a phase ends by itself."""
_HEAVY = ("torch", "numpy", "diffusers", "ideogram_q8.bench.picture.denoise")


@dataclass(frozen=True)
class Task:
    """What a child is given; `limit` in seconds."""

    phase: Phase
    folder: Path
    rehearse: bool
    run: str
    stack: str
    limit: float
    seen: frozenset[str]


def main(task: Task) -> None:
    """Runs the phase and writes its last line. Exits with LOST where another process must go on."""
    _settle(task)
    report = PhaseReport(task.folder / lines.FILE, task.run, task.stack, task.phase.name, task.limit, task.seen)
    try:
        task.phase.work()(CardSetting(task.folder, task.rehearse), report)
    except DeviceLostError:
        sys.exit(LOST)
    except Exception as error:  # noqa: BLE001 (the run goes on with the next phase; the line and the log say what happened)
        traceback.print_exc()
        report.end(*outcome(error))
    else:
        report.end()


def _settle(task: Task) -> None:
    """Makes the process one that can be ended with all that it starts, cleans up then, and prints into the phase's log."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if hasattr(signal, "alarm"):  # nobody is left to stop it where the run itself was killed
        signal.alarm(int(task.limit) + _ALONE)
    log = os.open(task.folder / f"{task.phase.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, number)
    os.close(log)
    if task.rehearse:  # what is measured of a rehearsal is nobody's choice of kernels
        os.environ["XDG_CACHE_HOME"] = str(task.folder / "cache")


def preload() -> None:
    """Imports what takes long to import and is there, in the process that the children of a rehearsal are forked from."""
    for name in _HEAVY:
        with contextlib.suppress(Exception):  # a phase that needs it says so
            importlib.import_module(name)
    gc.freeze()  # no child need walk what was imported


def nothing() -> None:
    """Ends at once: where a process has run it, the server that it was forked from has imported everything."""
