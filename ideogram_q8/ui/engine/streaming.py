"""Turns work that reports through a callback into an iterator, and closing the iterator into a cancelled work.

Building a variant and painting a picture report through callbacks; Gradio wants generators. The work runs in another thread,
so the time it measures does not include the browser's. Closing never waits: the work ends at its next report.

Threads are used again. Each new one brings an arena of the C library's heap and a team of OpenMP's with it, which a process does not get
rid of: with a thread for every picture, memory grew by a tenth in fifty changes of variant.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")
Emit = Callable[[T], None]


class Cancelled(Exception):
    """Raised inside the work, by its next report after the iterator was closed; the work may raise it itself to end early."""


@dataclass(frozen=True)
class _Failure:
    error: BaseException


@dataclass(frozen=True)
class _Value(Generic[T]):
    value: T


class _Worker(threading.Thread):
    """Does one job after the other, and takes the next only when it was taken from the waiting ones. Never keeps a program from ending."""

    _waiting: ClassVar[list[_Worker]] = []

    def __init__(self) -> None:
        super().__init__(name="studio-work", daemon=True)
        self.jobs: queue.SimpleQueue[tuple[Callable[[], _Failure | None], Callable[[_Failure | None], None]]] = (
            queue.SimpleQueue()
        )
        self.start()

    @classmethod
    def idle(cls) -> _Worker:
        """The one that was busy last, or a new one where all are busy."""
        try:
            return cls._waiting.pop()
        except IndexError:
            return cls()

    def run(self) -> None:
        while True:
            job, tell = self.jobs.get()
            last = job()
            self._waiting.append(self)  # before anybody hears of the end, and starts the next job
            tell(last)
            del job, tell, last  # what they hold is not kept until then


def stream(work: Callable[[Emit[T]], None]) -> Generator[T, None, None]:
    """Yields what `work` reports, in order; raises what it raises.

    Args:
        work: called once, in another thread, with the function to report through.
    """
    events: queue.SimpleQueue[_Value[T] | _Failure | None] = queue.SimpleQueue()
    closed = threading.Event()

    def emit(value: T) -> None:
        if closed.is_set():
            raise Cancelled
        events.put(_Value(value))

    def run() -> _Failure | None:
        try:
            work(emit)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - handed over to the iterating thread, where it is raised again
            return _Failure(error)
        return None

    _Worker.idle().jobs.put((run, events.put))
    try:
        while (event := events.get()) is not None:
            if isinstance(event, _Failure):
                raise event.error
            yield event.value
    finally:
        closed.set()
