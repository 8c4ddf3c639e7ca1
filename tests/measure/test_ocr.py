"""Reading: targets are found among lines, distances are Levenshtein's, and what the alphabet lacks is not held against a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.captions.suite import Text
from ideogram_q8.measure.words.ocr import Reader, ReadLine, Score, edit_distance, normal, score
from ideogram_q8.pocket import data

WORDS = st.text(alphabet="abcX ", max_size=6)


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("", "", 0), ("abc", "", 1), ("kitten", "sitting", 3 / 7), ("OPEN", "0PEN", 0.25), ("ab", "ba", 1)]
)
def test_distances_that_are_known(a: str, b: str, distance: float) -> None:
    assert edit_distance(a, b) == pytest.approx(distance)


@given(WORDS, WORDS, WORDS)
def test_the_distance_is_a_metric_before_it_is_divided(a: str, b: str, c: str) -> None:
    def whole(x: str, y: str) -> float:
        return edit_distance(x, y) * max(len(x), len(y))

    assert whole(a, b) == pytest.approx(whole(b, a))
    assert (whole(a, b) == 0) == (a == b)
    assert whole(a, c) <= whole(a, b) + whole(b, c) + 1e-9
    assert 0 <= edit_distance(a, b) <= 1


def line(text: str, y: float = 500, x: float = 500) -> ReadLine:
    return ReadLine(text, (y, x))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([line("OPEN")], Score(1, 1, 0)),
        ([line("open")], Score(0, 1, 1)),
        ([line("CLOSED"), line("OPEN")], Score(1, 1, 0)),
        ([line("OP", 100), line("EN", 100)], Score(0, 0, 0.2)),
        ([], Score(0, 0, 1)),
    ],
)
def test_a_text_is_looked_for_among_the_lines(lines: list[ReadLine], expected: Score) -> None:
    found = score(lines, [Text("OPEN", None)])
    assert found is not None
    assert (found.exact, found.any_case, found.distance) == pytest.approx(
        (expected.exact, expected.any_case, expected.distance)
    )


def test_lines_within_the_box_are_joined() -> None:
    lines = [line("BIG", 100), line("SALE", 200), line("now", 900)]
    assert score(lines, [Text("BIG  SALE", (0, 0, 250, 1000))]) == Score(1, 1, 0)
    assert score(lines, [Text("BIG SALE", (600, 0, 1000, 1000))]) != Score(1, 1, 0)


def test_several_texts_count_alike_and_none_is_no_score() -> None:
    assert score([line("A")], [Text("A", None), Text("B", None)]) == Score(0.5, 0.5, 0.5)
    assert score([line("A")], []) is None


def test_compatibility_forms_and_spaces_do_not_count() -> None:
    assert normal(" Ｏpen\n ①") == "Open 1"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(threads=1)


def test_the_reader_reads_drawn_words_where_they_stand(reader: Reader) -> None:
    for scene in data.held_out_scenes(3):
        assert scene.word is not None
        (found,) = reader(data.render(scene))
        top, left, bottom, right = scene.word.bbox
        assert found.text == scene.word.text
        assert top < found.middle[0] < bottom and left < found.middle[1] < right


def test_an_empty_picture_has_no_lines(reader: Reader) -> None:
    assert reader(data.render(data.Scene("blue", None, None))) == ()


@pytest.mark.parametrize(
    ("text", "known"), [("OPEN 24/7", True), ("Café", True), ("東京", True), ("नमस्ते", False), ("สวัสดี", False), ("مرحبا", False)]
)
def test_the_alphabet_is_the_models_own(reader: Reader, text: str, known: bool) -> None:
    assert reader.can_read(text) is known
