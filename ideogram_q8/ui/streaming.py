"""Turns work that reports through a callback into an iterator, and closing the iterator into a cancelled work.

Building a variant and painting a picture report through callbacks; Gradio wants generators. The work runs in its own thread,
so the time it measures does not include the browser's. Closing never waits: the work ends at its next report.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

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

    def run() -> None:
        try:
            work(emit)
        except Cancelled:
            events.put(None)
        except BaseException as error:  # noqa: BLE001 - handed over to the iterating thread, where it is raised again
            events.put(_Failure(error))
        else:
            events.put(None)

    threading.Thread(target=run, name="studio-work", daemon=True).start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, _Failure):
                raise event.error
            yield event.value
    finally:
        closed.set()
