"""A session cancels its own job only, and knows how many come before it."""

from __future__ import annotations

from ideogram_q8.ui.engine.jobs import Jobs


def test_a_session_cancels_only_its_own_job_on_the_tab_it_names() -> None:
    jobs = Jobs()
    with jobs.running("a", "t") as first, jobs.running("b", "t") as second, jobs.running("a", "u") as third:
        assert jobs.cancel("a", "t") is first
        assert first.cancelled and not second.cancelled and not third.cancelled


def test_a_job_is_cancelled_before_its_turn() -> None:
    jobs = Jobs()
    jobs.expect("a", "t")
    jobs.cancel("a", "t")
    with jobs.running("a", "t") as job:
        assert job.cancelled and job.note == "before it started"
    with jobs.running("a", "t") as job:
        assert not job.cancelled


def test_nothing_to_cancel() -> None:
    jobs = Jobs()
    assert jobs.cancel("a", "t") is None
    with jobs.running("a", "t"):
        pass
    assert jobs.cancel("a", "t") is None


def test_a_newer_job_of_a_session_outlives_the_older_one() -> None:
    jobs = Jobs()
    older = jobs.running("a", "t")
    older.__enter__()
    with jobs.running("a", "t") as newer:
        older.__exit__(None, None, None)
        assert jobs.cancel("a", "t") is newer


def test_the_line_moves_on_whether_jobs_end_are_turned_away_or_leave() -> None:
    jobs = Jobs()
    for session in "abcd":
        jobs.expect(session, "t")
    assert [jobs.ahead(session, "t") for session in "abcd"] == [0, 1, 2, 3]
    with jobs.running("a", "t") as running:
        assert jobs.ahead("a", "t") is None and jobs.ahead("b", "t") == 1
        jobs.drop("b", "t")
        jobs.leave("c")
        assert jobs.ahead("d", "t") == 1 and jobs.ahead("c", "t") is None
        jobs.leave("a")
        assert running.cancelled
    assert jobs.ahead("d", "t") == 0
