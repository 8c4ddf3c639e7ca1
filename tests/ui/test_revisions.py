"""Undoing and redoing the caption's text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.ui.engine.revisions import MOST, Revisions

TEXTS = st.lists(st.text(max_size=3), min_size=1, max_size=8)


def after(texts: list[str]) -> Revisions:
    found = Revisions()
    for text in texts:
        found = found.seen(text)
    return found


@given(TEXTS)
def test_undoing_and_redoing_all_comes_back_to_where_it_was(texts: list[str]) -> None:
    known = after(texts)
    back = known
    for _ in known.past:
        back = back.undo(back.now)
    assert back.now == "" and back.undo(back.now) == back
    for _ in known.past:
        back = back.redo(back.now)
    assert back == known and known.redo(known.now) == known


@given(TEXTS, st.text(max_size=3))
def test_what_was_typed_last_is_undone_too(texts: list[str], typed: str) -> None:
    known = after(texts)
    if typed != known.now:
        assert known.undo(typed).now == known.now
        assert known.undo(typed).redo(known.now).now == typed
        assert not known.undo(typed).seen(f"{typed}+").undone


def test_it_remembers_no_more_than_so_many() -> None:
    assert len(after(list(map(str, range(3 * MOST)))).past) == MOST
