"""Mending captions: sound ones stay as they are, mended ones are sound, and mending twice changes nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.captions import lint, suite
from ideogram_q8.captions.findings import strings_in
from ideogram_q8.captions.repair import repair

SOUND: dict[str, Any] = {
    "high_level_description": "a poster",
    "style_description": {
        "aesthetics": "calm",
        "lighting": "soft",
        "medium": "poster",
        "art_style": "flat",
        "color_palette": ["#FFEE00"],
    },
    "compositional_deconstruction": {
        "background": "plain",
        "elements": [
            {"type": "text", "bbox": [0, 0, 200, 1000], "text": "OPEN", "desc": "red", "color_palette": ["#FF0000"]},
            {"type": "obj", "desc": "a house"},
        ],
    },
}


def errors(caption: object) -> list[str]:
    return [str(issue) for issue in lint(caption) if issue.severity == "error"]


def element(**changes: Any) -> dict[str, Any]:
    return {"compositional_deconstruction": {"background": "", "elements": [{"type": "obj", "desc": "x"} | changes]}}


def test_a_sound_caption_stays_as_it_is() -> None:
    value, done = repair(SOUND)
    assert json.dumps(value) == json.dumps(SOUND) and done == []


@pytest.mark.parametrize("case", suite.get("ideogram").cases[::30], ids=lambda case: case.id)
def test_the_suite_needs_no_mending(case: suite.Case) -> None:
    value = json.loads(case.caption)
    assert repair(value) == (value, [])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "added background, elements"),
        ({"compositional_deconstruction": {"elements": [], "background": "x"}}, "order of training"),
        ({"version": 1, **SOUND}, "left out version"),
        ({"title": "", **SOUND}, "left out title"),
        (element(bbox=[700, 10.4, 20, 1000]), r"the box is \[20, 10, 700, 1000\]"),
        (element(bbox=[5, 5, 5, 5]), "left out"),
        (element(bbox=None), "left out bbox"),
        (element(bbox="none"), "left out the box"),
        (element(color_palette=["#abc", "00ff00", "red", "#123456"]), "is #AABBCC.*is #00FF00.*is #FF0000"),
        (element(type="shape"), "type is obj"),
        (element(type=None, text="HI"), "type is text"),
        (element(text=""), "left out text"),
        ({**SOUND, "style_description": {"photo": "", "art_style": "flat"}}, "left out photo"),
        ({**SOUND, "style_description": {}}, "added aesthetics, lighting, medium, art_style"),
    ],
)
def test_what_can_be_mended_is_and_is_said(broken: dict[str, Any], said: str) -> None:
    assert errors(broken) or "color_palette" in str(broken)
    value, done = repair(broken)
    assert errors(value) == []
    assert re.search(said, "; ".join(map(str, done))), done
    assert repair(value) == (value, [])


@pytest.mark.parametrize(
    "broken",
    [
        {**SOUND, "title": "a"},
        {**SOUND, "title": 1},
        {**SOUND, "colour_palette": ["teal"], "palette": ["red"]},
        {"compositional_deconstruction": "a house"},
        {"compositional_deconstruction": {"background": "", "elements": "a house"}},
        {**SOUND, "style_description": "watercolour"},
        {**SOUND, "style_description": {"photo": "35 mm", "art_style": "flat"}},
        element(text="HI"),
        element(bbox="all"),
        element(bbox=[0, 0, float("nan"), 1]),
        element(bbox=[0, 0, 100, 1200]),
        element(bbox=[-5, 0, 100, 100]),
        element(bbox=[0.5, 0, 100, 100]),
        element(bbox={"x": 10, "y": 10, "w": 100, "h": 100}),
        element(bbox=[[0, 0], [10, 10]]),
        element(color_palette=["deep sea"]),
        element(color_palette="deep sea"),
        element(color_palette=["rgb(300, 0, 0)"]),
        element(desc=3),
    ],
)
def test_what_is_not_understood_stays_and_is_refused(broken: dict[str, Any]) -> None:
    value, done = repair(broken)
    assert errors(value)
    assert repr(repair(value)) == repr((value, []))
    lost = {text for finding in done for text in finding.values}
    assert set(strings_in(broken)) <= set(strings_in(value)) | lost
    assert not [finding for finding in done if finding.kind == "left out"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*"ab", "type", "bbox", "text", "elements"]), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = ["high_level_description", "style_description", "compositional_deconstruction", "other"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_anything_is_survived_and_mending_twice_is_mending_once(caption: dict[str, Any]) -> None:
    once, _ = repair(caption)
    twice, done = repair(once)
    assert repr(twice) == repr(once) and done == []
