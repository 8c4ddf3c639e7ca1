"""Who is running what: lets a browser session, or an API client, cancel its own work and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Job:
    """One piece of work. `note` says how far it is, in words for people."""

    def __init__(self) -> None:
        self.note = ""
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()


class Jobs:
    """The running jobs of one tab, at most one per session."""

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}

    @contextmanager
    def running(self, session: str | None) -> Iterator[Job]:
        """Registers a job for as long as the context lasts. A newer job of the session replaces it."""
        key, job = session or "", Job()
        self._running[key] = job
        try:
            yield job
        finally:
            if self._running.get(key) is job:
                del self._running[key]

    def cancel(self, session: str | None) -> Job | None:
        """Asks the session's job to stop at its next step; None when nothing is running."""
        job = self._running.get(session or "")
        if job is not None:
            job.cancel()
        return job
