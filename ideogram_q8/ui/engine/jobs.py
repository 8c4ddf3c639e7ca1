"""Who is running what, and who waits: lets a browser session, or an API client, cancel its own work and nobody else's.

Gradio's own `cancels` would close the generator before it can say how far it was; here the generator ends itself and says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ideogram_q8.ui.engine.events import Event, Picture, Work


@dataclass
class Job:
    """One piece of work. `note` says how far it is, in words for people."""

    note: str = "before it started"
    started: bool = False
    cancelled: bool = False


def follow(
    events: Generator[Event, None, None], job: Job, show: Callable[[Work], tuple[str, dict[object, object]]]
) -> Generator[dict[object, object], None, Picture | None]:
    """The picture at the end of `events`, or None when the job was cancelled; the work is stopped then.

    Args:
        show: how far the work is, for `Job.note`, and what the page shows of that.
    """
    with closing(events):
        if job.cancelled:
            return None
        for event in events:
            if isinstance(event, Picture):
                return event
            job.note, update = show(event)
            if job.cancelled:
                return None
            yield update
    return None


class Jobs:
    """The jobs of a page in the order in which they came, at most one for each session and tab. For any number of threads."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()

    def expect(self, session: str | None, tab: str) -> None:
        """Registers a job that waits for its turn, so that it can be cancelled before it starts."""
        with self._lock:
            self._jobs.pop((session or "", tab), None)
            self._jobs[session or "", tab] = Job()

    @contextmanager
    def running(self, session: str | None, tab: str) -> Iterator[Job]:
        """Starts the expected job, or a new one, and forgets it at the end of the context."""
        key = session or "", tab
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.started:
                job = self._jobs[key] = Job()
            job.started = True
        try:
            yield job
        finally:
            with self._lock:
                if self._jobs.get(key) is job:
                    del self._jobs[key]

    def ahead(self, session: str | None, tab: str) -> int | None:
        """How many jobs come before this one; None where it has started or is none."""
        with self._lock:
            job = self._jobs.get((session or "", tab))
            if job is None or job.started:
                return None
            return list(self._jobs).index((session or "", tab))

    def cancel(self, session: str | None, tab: str) -> Job | None:
        """Asks a job to stop at its next step; None when there is none."""
        with self._lock:
            job = self._jobs.get((session or "", tab))
        if job is not None:
            job.cancelled = True
        return job

    def drop(self, session: str | None, tab: str) -> None:
        """Forgets a job that never got its turn."""
        with self._lock:
            job = self._jobs.get((session or "", tab))
            if job is not None and not job.started:
                del self._jobs[session or "", tab]

    def leave(self, session: str | None) -> None:
        """Cancels all jobs of a session that has ended, and forgets those that wait."""
        with self._lock:
            for key in [key for key in self._jobs if key[0] == (session or "")]:
                self._jobs[key].cancelled = True
                if not self._jobs[key].started:
                    del self._jobs[key]
