"""One phase after the other, each in a process of its own that is stopped when its time is up: whatever happens in it, the run goes on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ideogram_q8.bench.card import child, lines
from ideogram_q8.bench.card.child import Task
from ideogram_q8.bench.card.lines import FORMAT_VERSION, CardLine, State
from ideogram_q8.bench.card.phases import PHASES, Phase
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.machine import platforms as machine

_STACK = ("torch", "triton", "diffusers", "transformers", "comfy-kitchen")
_LEAST = 1.0
"""Seconds that a phase needs to be worth starting."""
_POLL, _GRACE = 0.1, 5.0
"""Seconds between looks at a child, and from asking it to end to ending it."""
Show = Callable[[str], None]


@dataclass
class CardRun:
    """One call of `bench card`: `began` in UTC, and when it has to be over by `time.monotonic`."""

    folder: Path
    rehearse: bool
    began: str
    deadline: float
    show: Show
    stack: str = field(default_factory=lambda: versions())  # noqa: PLW0108 (defined below)

    @property
    def path(self) -> Path:
        return self.folder / lines.FILE

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def add(self, phase: Phase, name: str, state: State, reason: str, seconds: float = 0.0) -> None:
        """Writes a line about a phase, and shows it."""
        line = CardLine(
            FORMAT_VERSION, self.began, lines.now(), self.stack, phase.name, name, state, round(seconds, 3), reason, {}
        )
        lines.append(self.path, line)
        self.show(said(line))

    def of(self, phase: Phase) -> list[CardLine]:
        """The lines that this run has of a phase."""
        return [line for line in lines.read(self.path)[0] if line.run == self.began and line.phase == phase.name]


def versions() -> str:
    """The versions that decide what a measurement is true of."""
    found = [f"ideogram_q8 {TOOL_VERSION}"]
    for name in _STACK:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def measure(
    folder: Path,
    seconds: float,
    rehearse: bool,
    phases: Sequence[Phase] = PHASES,
    again: bool = False,
    show: Show = lambda _: None,
) -> list[CardLine]:
    """Runs `phases` within `seconds` and gives all lines that the folder then has.

    What an earlier run into the folder finished on the same versions is not run again, unless `again`; a line says so.

    Raises:
        RequestError: card.jsonl in the folder cannot be read.
        KeyboardInterrupt: Ctrl-C; what was measured by then is in the file.
    """
    run = CardRun(folder, rehearse, lines.now(), time.monotonic() + seconds, show)
    earlier, damaged = lines.read(run.path)
    if damaged:
        show(f"{run.path}: {damaged} lines are damaged and do not count")
    finished = {} if again else {line.phase: line for line in earlier if _finished(line, run)}
    if rehearse:
        _warm_up(run)
    todo = [phase for phase in phases if phase.name not in finished]
    for number, phase in enumerate(phases, 1):
        if phase.name in finished:
            run.add(phase, "", "kept", f"was finished at {finished[phase.name].at} on the same versions")
            continue
        share = phase.seconds / sum(each.seconds for each in todo)
        todo.remove(phase)
        limit = run.left * share
        if limit < _LEAST:
            run.add(phase, "", "late", "no time was left for it; run it again with the same --out, or give more --seconds")
            continue
        show(f"[{number}/{len(phases)}] {phase.name}: {phase.settles} (at most {limit:.0f} of {run.left:.0f} s left)")
        _supervise(run, phase, limit)
    return lines.read(run.path)[0]


def _finished(line: CardLine, run: CardRun) -> bool:
    return line.name == "" and line.state == "done" and line.stack == run.stack


def _supervise(run: CardRun, phase: Phase, limit: float) -> None:
    """Runs a phase until it ends or is late; after a crash again, from the measurement after the one that crashed."""
    started, end = time.monotonic(), time.monotonic() + limit
    while True:
        seen = frozenset(line.name for line in run.of(phase) if line.name)
        task = Task(phase, run.folder, run.rehearse, run.began, run.stack, end - time.monotonic(), seen)
        code = _run(task, end, run)
        missing = _not_reached(run.of(phase))
        took = time.monotonic() - started
        if code is None:
            what = f"; not reached: {'; '.join(missing)}" if missing else ""
            run.add(phase, "", "late", f"stopped after {took:.0f} s{what}", took)
            return
        if code == 0:
            if not _ended(run.of(phase)):
                run.add(phase, "", "failed", "its process ended without a result", took)
            return
        if code != child.LOST:
            run.add(phase, missing[0] if missing else "", "failed", f"its process ended with code {code}", took)
            missing = missing[1:]
        if not missing:
            if not _ended(run.of(phase)):
                run.add(phase, "", "failed", f"its process ended with code {code}", took)
            return
        run.show(f"{phase.name}: goes on in a new process with {missing[0]}")


def _not_reached(found: Sequence[CardLine]) -> list[str]:
    """What the phase set out to measure and has no line yet."""
    planned = next((line.found.get("names") for line in found if line.state == "planned"), None)
    names = planned if isinstance(planned, list) else []
    there = {line.name for line in found}
    return [str(name) for name in names if name not in there]


def _ended(found: Sequence[CardLine]) -> bool:
    return any(line.name == "" and line.state != "planned" for line in found)


def _run(task: Task, end: float, run: CardRun) -> int | None:
    """The exit code of the phase's process; None where it was stopped because its time was up. Lines are shown as they come."""
    process: BaseProcess = _context(task.rehearse).Process(target=child.main, args=(task,), daemon=False)
    shown, size = len(run.of(task.phase)), -1
    process.start()
    try:
        while True:
            process.join(_POLL)
            if run.size != size:
                size, found = run.size, run.of(task.phase)
                for line in found[shown:]:
                    if line.state != "planned":
                        run.show(f"  {said(line)} ({max(0.0, end - time.monotonic()):.0f} s left)")
                shown = len(found)
            if process.exitcode is not None:
                return process.exitcode
            if time.monotonic() > end:
                return None
    finally:
        _stop(process)


def _context(rehearse: bool) -> Any:
    """How processes are made.

    On a card each is made from nothing: what a library asks CUDA while it is imported would spoil CUDA in every process that is forked
    from there. Those of a rehearsal are forked from one that has imported torch and diffusers, which take most of its time.
    """
    if not rehearse or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ideogram_q8.bench.card.preloaded"])
    return context


def _warm_up(run: CardRun) -> None:
    """Waits until the children of a rehearsal can be forked, which is no phase's time."""
    process = _context(True).Process(target=child.nothing)
    process.start()
    process.join(run.left)
    _stop(process)


def _stop(process: BaseProcess) -> None:
    """Ends a process and all that it started; nothing where it has ended."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if process.exitcode is not None:
            return
        _signal(process, number)
        process.join(_GRACE)


def _signal(process: BaseProcess, number: int) -> None:
    """Sends a signal to the process's group, to the process alone where it is in none of its own yet."""
    assert process.pid is not None
    try:
        machine.here.signal_group(process.pid, number)
    except (ProcessLookupError, PermissionError):
        process.kill()


def said(line: CardLine) -> str:
    """A line in words: for people."""
    reason = f": {line.reason}" if line.reason else ""
    return f"{line.phase}{f', {line.name}' if line.name else ''}: {line.state} in {line.seconds:.1f} s{reason}"
