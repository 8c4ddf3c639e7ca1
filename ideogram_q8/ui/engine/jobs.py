"""Who is running what, and who waits: lets a browser session, or an API client, cancel its own work and nobody else's.

Gradio's own `cancels` would close the generator before it can say how far it was; here the generator ends itself and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from ideogram_q8.ui.doors.limits import Quota
from ideogram_q8.ui.engine.events import Event, Picture, Work

WAIT_SECONDS = 60.0
"""A page that waits is heard of each second."""
MOST_OF_ONE, MOST = 16, 256
"""Waiting jobs that are remembered: of a visitor, and of all."""


@dataclass
class Job:
    """One piece of work. `note` says how far it is, in words for people; `seen` is when its page was heard of last, in seconds."""

    note: str = "before it started"
    started: bool = False
    cancelled: bool = False
    visitor: str = ""
    seen: float = 0.0
    pictures: Quota = field(default_factory=lambda: Quota(None, "pictures"))


def follow(
    events: Generator[Event, None, None], job: Job, show: Callable[[Work], tuple[str, dict[object, object]]]
) -> Generator[dict[object, object], None, Picture | None]:
    """The picture at the end of `events`, or None when the job was cancelled; the work is stopped then.

    Args:
        show: how far the work is, for `Job.note`, and what the page shows of that.

    Raises:
        RequestError: the visitor has had as many bytes of pictures as one may have.
    """
    with closing(events):
        if job.cancelled:
            return None
        job.pictures.check(job.visitor)
        for event in events:
            if isinstance(event, Picture):
                job.pictures.spend(job.visitor, 0 if event.reused else event.path.stat().st_size)
                return event
            job.note, update = show(event)
            if job.cancelled:
                return None
            yield update
    return None


class Jobs:
    """The jobs of a page in the order in which they came, at most one for each session and tab. For any number of threads.

    What waits is forgotten when its page was not heard of for WAIT_SECONDS, and when there are too many of its visitor's or of all.

    Args:
        pictures: bytes of pictures for each visitor.
    """

    def __init__(self, pictures: Quota | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()
        self._pictures, self._clock = pictures or Quota(None, "pictures"), clock

    def expect(self, session: str | None, tab: str, visitor: str = "") -> None:
        """Registers a job that waits for its turn, so that it can be cancelled before it starts."""
        with self._lock:
            self._jobs.pop((session or "", tab), None)
            self._jobs[session or "", tab] = self._new(visitor)
            self._make_room(visitor)

    def _new(self, visitor: str) -> Job:
        return Job(visitor=visitor, seen=self._clock(), pictures=self._pictures)

    def _make_room(self, visitor: str) -> None:
        waiting = [(key, job) for key, job in self._jobs.items() if not job.started]
        gone = [key for key, job in waiting if self._clock() - job.seen > WAIT_SECONDS]
        left = [(key, job) for key, job in waiting if key not in gone]
        gone += [key for key, job in left if job.visitor == visitor][:-MOST_OF_ONE]
        gone += [key for key, _ in left][:-MOST]
        for key in gone:
            self._jobs.pop(key, None)

    @contextmanager
    def running(self, session: str | None, tab: str, visitor: str = "") -> Iterator[Job]:
        """Starts the expected job, or a new one, and forgets it at the end of the context."""
        key = session or "", tab
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.started:
                job = self._jobs[key] = self._new(visitor)
            job.started, job.visitor = True, visitor
        try:
            yield job
        finally:
            with self._lock:
                if self._jobs.get(key) is job:
                    del self._jobs[key]

    def ahead(self, session: str | None, tab: str) -> int | None:
        """How many jobs come before this one; None where it has started or is none. Its page was heard of with that."""
        with self._lock:
            job = self._jobs.get((session or "", tab))
            if job is None or job.started:
                return None
            job.seen = self._clock()
            self._make_room(job.visitor)
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
