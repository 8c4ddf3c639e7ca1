"""Drafts: what is read can be written, and the other way round."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8 import captions as caption
from ideogram_q8.captions import suite
from ideogram_q8.errors import CaptionError
from ideogram_q8.ui.engine.draft import NEW_BOX, Draft, Element, hold, read, to_value, write
from ideogram_q8.ui.engine.examples import EXAMPLES
from ideogram_q8.ui.parts.boxes import MAX_ELEMENTS

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COLOURS = st.lists(st.from_regex(r"#[0-9A-F]{6}", fullmatch=True), max_size=5).map(tuple)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    top, left = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    return top, left, draw(st.integers(top + 1, 1000)), draw(st.integers(left + 1, 1000))


OBJECTS = st.builds(Element, st.just("obj"), WORDS, st.just(""), st.none() | boxes(), COLOURS)
TEXTS = st.builds(Element, st.just("text"), WORDS, WORDS, st.none() | boxes(), COLOURS)
ELEMENTS = st.lists(OBJECTS | TEXTS, max_size=4).map(tuple)
PLAIN = st.builds(Draft, description=WORDS, background=WORDS, elements=ELEMENTS)
STYLED = st.builds(Draft, WORDS, WORDS, st.sampled_from(["photo", "art_style"]), WORDS, WORDS, WORDS, WORDS, COLOURS, ELEMENTS)


@given(PLAIN | STYLED)
def test_a_draft_is_a_sound_caption_and_comes_back(draft: Draft) -> None:
    text = write(draft)
    assert [issue for issue in caption.lint(caption.parse(text)) if issue.severity == "error"] == []
    assert read(text) == (draft, [])


@pytest.mark.parametrize("case", suite.get("ideogram").cases[::15], ids=lambda case: case.id)
def test_every_caption_of_the_suite_survives_editing(case: suite.Case) -> None:
    draft, done = read(case.caption)
    assert caption.canonical(write(draft)) == case.caption and done == []


def test_a_sentence_becomes_the_description() -> None:
    draft, _ = read("  a red house ")
    assert to_value(draft) == caption.wrap_plain_text("a red house")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.label)
def test_the_examples_can_be_edited(example: object) -> None:
    assert read(example.caption)[1] == []  # type: ignore[attr-defined]


def test_faults_are_mended_or_named() -> None:
    broken = {"compositional_deconstruction": {"elements": [{"desc": "x", "bbox": [900, 0, 100, 50.5], "type": "obj"}]}}
    draft, done = read(json.dumps(broken))
    assert draft.elements == (Element("obj", "x", bbox=(100, 0, 900, 50)),) and len(done) == 3
    with pytest.raises(CaptionError, match="desc: got 3"):
        read(json.dumps({"compositional_deconstruction": {"background": "", "elements": [{"type": "obj", "desc": 3}]}}))
    with pytest.raises(CaptionError, match="JSON"):
        read("{")


def test_a_wrapped_caption_is_taken_out_and_no_word_of_another_form_is_lost() -> None:
    value = to_value(Draft("a poster", "plain", elements=(Element("obj", "a star", palette=("#FF0000",)),)))
    for text in (f"```json\n{json.dumps(value)}\n```", json.dumps({"caption": value}), json.dumps(json.dumps(value))):
        draft, done = read(text)
        assert to_value(draft) == value and len(done) >= 1
    at_top = {"high_level_description": "a poster", **value["compositional_deconstruction"]}
    assert to_value(read(json.dumps(at_top))[0]) == value
    for unknown in (
        {**value, "title": "SALE"},
        {"compositional_deconstruction": {"background": "", "elements": ["a", {"mood": "x"}]}},
    ):
        with pytest.raises(CaptionError, match="unknown key"):
            read(json.dumps(unknown))


def test_elements_are_changed_added_and_removed_by_place() -> None:
    draft = Draft(elements=(Element("obj", "a"), Element("text", "b", "B")))
    assert draft.with_element(1, text="C").elements[1].text == "C"
    assert draft.with_element(2, text="C") is draft
    assert draft.without(0).elements == (draft.elements[1],)
    assert draft.with_boxes([None, (0, 0, 1, 1)]).elements[1].bbox == (0, 0, 1, 1)
    assert draft.with_boxes([None]) is draft
    added = draft.added(Element("obj", bbox=NEW_BOX)).added(Element("obj", bbox=NEW_BOX)).added(Element("obj", bbox=NEW_BOX))
    assert len({element.bbox for element in added.elements[2:]}) == 3
    full = Draft(elements=(Element("obj"),) * MAX_ELEMENTS)
    with pytest.raises(CaptionError, match="as many as can be edited"):
        full.added(Element("obj"))


def test_an_edit_changes_what_the_text_says_and_nothing_else() -> None:
    held = hold("a red house", None)
    edited = held.edited(Draft("a red house", "white"))
    assert hold("a red house", edited) is edited  # the page is behind
    assert hold(edited.texts[0], edited) is edited
    assert hold("a blue house", edited).draft == Draft("a blue house")
    with pytest.raises(CaptionError, match="JSON"):
        hold("{", edited)
