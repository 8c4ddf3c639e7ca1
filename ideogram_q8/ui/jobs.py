"""Who is running what: lets a browser session, or an API client, cancel its own work and nobody else's.

Gradio's own `cancels` would close the generator before it can say how far it was; here the generator ends itself and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Job:
    """One piece of work. `note` says how far it is, in words for people."""

    note: str = "before it started"
    started: bool = False
    cancelled: bool = False


class Jobs:
    """The jobs of one tab, at most one per session."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def expect(self, session: str | None) -> None:
        """Registers a job that waits for its turn, so that it can be cancelled before it starts."""
        self._jobs[session or ""] = Job()

    @contextmanager
    def running(self, session: str | None) -> Iterator[Job]:
        """Starts the expected job, or a new one, and forgets it at the end of the context."""
        key = session or ""
        job = self._jobs.get(key)
        if job is None or job.started:
            job = self._jobs[key] = Job()
        job.started = True
        try:
            yield job
        finally:
            if self._jobs.get(key) is job:
                del self._jobs[key]

    def cancel(self, session: str | None) -> Job | None:
        """Asks the session's job to stop at its next step; None when there is none."""
        job = self._jobs.get(session or "")
        if job is not None:
            job.cancelled = True
        return job
