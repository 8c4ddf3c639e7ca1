"""The caption's rules, one by one, and hostile input."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideogram_q8 import captions as caption
from ideogram_q8.errors import CaptionError

VALID: dict[str, Any] = {
    "high_level_description": "A poster.",
    "style_description": {
        "aesthetics": "calm",
        "lighting": "soft",
        "photo": "35mm",
        "medium": "photograph",
        "color_palette": ["#1B1B2F"],
    },
    "compositional_deconstruction": {
        "background": "plain teal",
        "elements": [
            {"type": "obj", "bbox": [0, 0, 500, 1000], "desc": "a star", "color_palette": ["#FFFFFF"]},
            {"type": "text", "bbox": [600, 100, 900, 900], "text": "CAFÉ", "desc": "white letters"},
        ],
    },
}
ELEMENTS = "compositional_deconstruction.elements"


def errors(value: object) -> list[str]:
    return [str(issue) for issue in caption.lint(value) if issue.severity == "error"]


def warnings(value: object) -> list[str]:
    return [str(issue) for issue in caption.lint(value) if issue.severity == "warning"]


def with_style(**style: object) -> dict[str, Any]:
    return {**VALID, "style_description": style}


def with_element(**element: object) -> dict[str, Any]:
    return {"compositional_deconstruction": {"background": "", "elements": [element]}}


def test_a_full_caption_and_the_smallest_one_are_clean():
    assert caption.lint(VALID) == []
    assert caption.lint(caption.wrap_plain_text("a red star")) == []
    drawing = with_style(aesthetics="a", lighting="b", medium="c", art_style="d")
    assert caption.lint(drawing) == []


def test_plain_text_is_wrapped_into_the_form_of_training():
    assert caption.to_caption("  a red star \n") == (
        '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
    )


def test_a_json_caption_stays_but_loses_its_spaces_and_escapes():
    typed = json.dumps(VALID, indent=2, ensure_ascii=True)
    text = caption.to_caption(f"\ufeff\n{typed}\n")
    assert json.loads(text) == VALID
    assert "CAFÉ" in text and '": ' not in text
    assert caption.to_caption(text) == text == caption.canonical(VALID) == caption.canonical(typed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "caption: got [], expected a JSON object with compositional_deconstruction"),
        ({}, "caption: the key compositional_deconstruction is missing"),
        ({**VALID, "aspect_ratio": "1:1"}, "caption: got the unknown key 'aspect_ratio', expected only high_level_description"),
        ({**VALID, "high_level_description": 5}, "high_level_description: got 5, expected a string"),
        ({**VALID, "style_description": None}, "style_description: got nothing, expected an object"),
        (with_style(photo="a", art_style="b"), "style_description: got both of photo and art_style, expected exactly one"),
        (with_style(medium="a"), "style_description: got neither of photo and art_style"),
        (with_style(aesthetics="a", lighting="b", photo="c"), "style_description: the key medium is missing"),
        (
            with_style(aesthetics="a", lighting="b", medium="c", photo="d"),
            "got the keys in the order aesthetics, lighting, medium, photo; expected aesthetics, lighting, photo, medium",
        ),
        (
            with_style(aesthetics="a", lighting="b", photo="c", medium="d", color_palette=["#000000"] * 17),
            "style_description.color_palette: got 17 colours, expected at most 16",
        ),
        ({"compositional_deconstruction": {"elements": []}}, "compositional_deconstruction: the key background is missing"),
        ({"compositional_deconstruction": {"background": ""}}, "compositional_deconstruction: the key elements is missing"),
        (
            {"compositional_deconstruction": {"elements": [], "background": ""}},
            "compositional_deconstruction: got the keys in the order elements, background",
        ),
        ({"compositional_deconstruction": {"background": "", "elements": {}}}, f"{ELEMENTS}: got an object, expected a list"),
        ({"compositional_deconstruction": {"background": "", "elements": [1]}}, f"{ELEMENTS}[0]: got 1, expected an object"),
        (with_element(desc="a star"), f"{ELEMENTS}[0].type: got nothing, expected 'obj' or 'text'"),
        (with_element(type="object", desc="a"), f"{ELEMENTS}[0].type: got 'object', expected 'obj' or 'text'"),
        (with_element(type=["obj"], desc="a"), f"{ELEMENTS}[0].type: got ['obj'], expected"),
        (with_element(type="obj"), f"{ELEMENTS}[0]: the key desc is missing"),
        (with_element(type="text", desc="letters"), f"{ELEMENTS}[0]: the key text is missing"),
        (with_element(type="obj", text="A", desc="a"), f"{ELEMENTS}[0]: got the unknown key 'text'"),
        (with_element(type="obj", desc="a", bbox=[0, 0, 1, 1]), f"{ELEMENTS}[0]: got the keys in the order type, desc, bbox"),
        (with_element(type="obj", bbox=[0, 0, 1], desc="a"), f"{ELEMENTS}[0].bbox: got [0, 0, 1], expected four integers"),
        (with_element(type="obj", bbox=[0, 0, 1.0, 1], desc="a"), f"{ELEMENTS}[0].bbox: got [0, 0, 1.0, 1], expected four"),
        (with_element(type="obj", bbox=[0, 0, True, 1], desc="a"), f"{ELEMENTS}[0].bbox: got [0, 0, true, 1], expected four"),
        (
            with_element(type="obj", bbox=[0, 0, 1001, 1], desc="a"),
            f"{ELEMENTS}[0].bbox: got [0, 0, 1001, 1], expected integers",
        ),
        (with_element(type="obj", bbox=[9, 0, 1, 1], desc="a"), f"{ELEMENTS}[0].bbox: got [9, 0, 1, 1], expected [ymin, xmin"),
        (with_element(type="obj", bbox=[0, 9, 1, 1], desc="a"), f"{ELEMENTS}[0].bbox: got [0, 9, 1, 1], expected [ymin, xmin"),
        (
            with_element(type="obj", desc="a", color_palette="#FFFFFF"),
            f"{ELEMENTS}[0].color_palette: got '#FFFFFF', expected a",
        ),
        (with_element(type="obj", desc="a", color_palette=["#FFFFFF"] * 6), "got 6 colours, expected at most 5"),
        (with_element(type="obj", desc="a", color_palette=["#ffffff"]), f"{ELEMENTS}[0].color_palette[0]: got '#ffffff'"),
        (with_element(type="obj", desc="a", color_palette=["#FFF"]), "expected #RRGGBB in capitals"),
        (with_element(type="obj", desc="\ud83d"), f"{ELEMENTS}[0].desc: holds half of a UTF-16 surrogate pair"),
    ],
)
def test_each_rule_is_an_error_that_names_the_place(value: object, expected: str):
    found = errors(value)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dict(reversed(VALID.items())), "caption: got the keys in the order compositional_deconstruction, style_description"),
        (with_element(type="obj", bbox=[5, 0, 5, 9], desc="a"), f"{ELEMENTS}[0].bbox: [5, 0, 5, 9] has no area"),
        (with_element(type="text", text="", desc="a"), f"{ELEMENTS}[0].text: is empty, so nothing will be written"),
    ],
)
def test_what_the_official_verifier_lets_pass_is_a_warning_and_does_not_stop(value: dict[str, Any], expected: str):
    assert errors(value) == []
    assert [text for text in warnings(value) if expected in text]
    assert caption.to_caption(json.dumps(value)) == caption.canonical(value)


def test_a_refusal_names_the_first_fault_and_counts_the_others():
    value = copy.deepcopy(VALID)
    value["style_description"]["color_palette"] = ["red"]
    value["compositional_deconstruction"]["elements"][0]["bbox"] = [0, 0, 2000, 10]
    with pytest.raises(CaptionError) as refusal:
        caption.to_caption(json.dumps(value))
    assert str(refusal.value) == (
        "caption is not valid: style_description.color_palette[0]: got 'red', "
        "expected #RRGGBB in capitals, for example #1A2B3C (and 1 more)"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "caption is empty"),
        ("\ufeff \n", "caption is empty"),
        ("{", "not valid JSON at line 1, column 2"),
        ('{"a": 1} trailing', "not valid JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"a": {"b": NaN}}', "caption holds NaN"),
        ('{"a": -Infinity}', "caption holds -Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "a number with too many digits"),
        ('{"a":' * 6000 + "1" + "}" * 2000, "nested too deeply"),
        ('{"a": ' + "[" * 30_000, "nested too deeply"),
        ('{"a":' * 4000 + "1" + "}" * 4000, "nested too deeply"),
        ('{"a": "' + "[" * 3000 + '", "b": 1', "not valid JSON"),
        ("x" * 40_000, "40000 characters; expected at most 32768"),
        ("{}", "the key compositional_deconstruction is missing"),
        ("a \udcff b", "surrogate"),
    ],
)
def test_hostile_text_is_refused_in_one_line(text: str, expected: str):
    with pytest.raises(CaptionError) as refusal:
        caption.to_caption(text)
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_parse_wants_an_object():
    assert caption.parse('{"b": 1, "a": 2}') == {"b": 1, "a": 2}
    with pytest.raises(CaptionError, match=r"caption is \[1\]; expected a JSON object"):
        caption.parse("[1]")


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": object()}, {"a": 10**5000}])
def test_what_json_cannot_say_is_refused(value: dict[str, object]):
    with pytest.raises(CaptionError):
        caption.canonical(value)


def test_an_integer_beyond_pythons_own_limit_is_named_not_printed():
    (found,) = errors(with_element(type="obj", bbox=[0, 0, 10**5000, 1], desc="a"))
    assert "got [0, 0, an enormous integer, 1], expected integers from 0 to 1000" in found


def test_a_value_that_contains_itself_is_refused():
    value: dict[str, object] = {}
    value["compositional_deconstruction"] = value
    assert errors(value)
    with pytest.raises(CaptionError):
        caption.canonical(value)


KEYS = st.sampled_from(
    "high_level_description style_description compositional_deconstruction background elements type bbox text desc "
    "color_palette aesthetics lighting photo medium art_style other".split()
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["obj", "text", "#FFFFFF", 2**80])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)


@given(VALUES)
def test_lint_answers_for_any_value_in_single_lines(value: object):
    for issue in caption.lint(value):
        assert "\n" not in str(issue)


@given(st.text(st.characters(codec=None)) | st.text('{}[]":,019.eE-\\utrfalsn bbox', max_size=60).map(lambda tail: "{" + tail))
def test_any_text_becomes_a_valid_caption_or_a_caption_error(text: str):
    try:
        made = caption.to_caption(text)
    except CaptionError:
        return
    assert errors(caption.parse(made)) == []
    assert caption.to_caption(made) == made
    made.encode()


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip("\ufeff").strip()))
def test_a_sentence_keeps_its_characters(text: str):
    if text.lstrip("\ufeff").strip().startswith("{"):
        return
    made = caption.parse(caption.to_caption(text))
    assert made["high_level_description"] == text.lstrip("\ufeff").strip()
