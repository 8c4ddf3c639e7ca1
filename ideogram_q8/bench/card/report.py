"""What a phase writes its lines with, in its own process."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ideogram_q8.bench.card import lines
from ideogram_q8.bench.card.lines import FORMAT_VERSION, CardLine, State
from ideogram_q8.errors import IdeogramQ8Error

_LONGEST_REASON = 300
WRONG = "wrong"


class DeviceLostError(Exception):
    """The card answers nothing any more, as after an illegal access; only a new process can go on."""


class PhaseReport:
    """Lines of one phase. `seen` measurements have their lines, from a process before this one, and are not made again."""

    def __init__(self, path: Path, run: str, stack: str, phase: str, limit: float, seen: frozenset[str] = frozenset()) -> None:
        self._path, self._run, self._stack, self._phase = path, run, stack, phase
        self._started = time.monotonic()
        self._deadline = self._started + limit
        self.seen = seen

    @property
    def left(self) -> float:
        """Seconds until the phase is stopped."""
        return max(0.0, self._deadline - time.monotonic())

    def add(
        self, name: str, found: Mapping[str, object], state: State = "done", reason: str = "", seconds: float = 0.0
    ) -> None:
        """Writes a line."""
        where = FORMAT_VERSION, self._run, lines.now(), self._stack, self._phase
        lines.append(self._path, CardLine(*where, name, state, round(seconds, 3), reason, lines.plain(found)))

    def end(self, state: State = "done", reason: str = "") -> None:
        """Writes the line of the phase itself, with the processor's time that this process took."""
        taken = time.monotonic() - self._started
        self.add("", {"cpu_seconds": round(time.process_time(), 3)}, state, reason, taken)

    def plan(self, names: Iterable[str]) -> list[str]:
        """Writes what the phase sets out to measure; returns what of it is still to be measured."""
        chosen = list(names)
        if not self.seen:
            self.add("", {"names": chosen}, "planned")
        return [name for name in chosen if name not in self.seen]

    def attempt(self, name: str, work: Callable[[], Mapping[str, object] | str | None]) -> None:
        """Measures, unless it was measured. What `work` gives is the line's `found`; a text is the reason for a refusal.

        In `found` a text under WRONG says what must not be so.

        Raises:
            DeviceLostError: the device is of no more use to this process; the line that says why is written.
        """
        if name in self.seen:
            return
        started = time.monotonic()
        found: Mapping[str, object] = {}
        try:
            given = work()
            found = given if isinstance(given, Mapping) else {}
            state, reason = _judged(given)
        except Exception as error:  # noqa: BLE001 (compilers, drivers and other people's libraries; the line says what happened)
            traceback.print_exc()
            state, reason = outcome(error)
        self.add(name, found, state, reason, time.monotonic() - started)
        if state == "failed":
            _check_device()

    def attempts(self, works: Sequence[tuple[str, Callable[[], Mapping[str, object] | str | None]]]) -> None:
        """Plans and measures all of them. Raises DeviceLostError."""
        self.plan(name for name, _ in works)
        for name, work in works:
            self.attempt(name, work)


def _judged(given: Mapping[str, object] | str | None) -> tuple[State, str]:
    if isinstance(given, str):
        return "refused", given
    wrong = None if given is None else given.get(WRONG)
    return ("wrong", str(wrong)) if wrong else ("done", "")


def outcome(error: BaseException) -> tuple[State, str]:
    """What an exception means for what raised it, and a line of text."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name and " " not in error.name:
        return "missing", f"{error.name.partition('.')[0]} is not installed"
    if isinstance(error, ImportError):
        return "missing", text[:_LONGEST_REASON]
    if isinstance(error, IdeogramQ8Error):
        return "refused", text[:_LONGEST_REASON]
    return "failed", f"{type(error).__name__}: {text}"[:_LONGEST_REASON]


def release() -> None:
    """Gives back what a measurement left on the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _check_device() -> None:
    """Raises DeviceLostError where a fault outlives what caused it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
        release()
    except Exception as error:
        raise DeviceLostError(str(error)) from error
