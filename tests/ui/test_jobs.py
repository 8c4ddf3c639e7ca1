"""A session cancels its own job only."""

from __future__ import annotations

from ideogram_q8.ui.jobs import Jobs


def test_a_session_cancels_only_its_own_job() -> None:
    jobs = Jobs()
    with jobs.running("a") as first, jobs.running("b") as second:
        assert jobs.cancel("a") is first
        assert first.cancelled and not second.cancelled


def test_a_job_is_cancelled_before_its_turn() -> None:
    jobs = Jobs()
    jobs.expect("a")
    jobs.cancel("a")
    with jobs.running("a") as job:
        assert job.cancelled and job.note == "before it started"
    with jobs.running("a") as job:
        assert not job.cancelled


def test_nothing_to_cancel() -> None:
    jobs = Jobs()
    assert jobs.cancel("a") is None
    with jobs.running("a"):
        pass
    assert jobs.cancel("a") is None


def test_a_newer_job_of_a_session_outlives_the_older_one() -> None:
    jobs = Jobs()
    older = jobs.running("a")
    older.__enter__()
    with jobs.running("a") as newer:
        older.__exit__(None, None, None)
        assert jobs.cancel("a") is newer
