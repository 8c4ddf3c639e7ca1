"""Texts of all kinds read as captions: what is taken out, converted, refused; and the laws that hold for all of them."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ideogram_q8.captions import accept, canonical, lint, parse, to_caption, understand
from ideogram_q8.captions.findings import Finding, strings_in
from ideogram_q8.errors import CaptionError

SOUND: dict[str, Any] = {
    "high_level_description": "A poster of a lighthouse.",
    "style_description": {
        "aesthetics": "quiet",
        "lighting": "dusk",
        "medium": "graphic design",
        "art_style": "flat vector",
        "color_palette": ["#0A2540", "#F4B942"],
    },
    "compositional_deconstruction": {
        "background": "plain dark blue",
        "elements": [
            {"type": "text", "bbox": [60, 100, 220, 900], "text": "HARBOR", "desc": "tall white capitals"},
            {"type": "obj", "bbox": [300, 350, 900, 650], "desc": "a lighthouse", "color_palette": ["#F4B942"]},
        ],
    },
}
TEXT = json.dumps(SOUND)
INDENTED = json.dumps(SOUND, indent=2)
SENTENCE = "a red house beside the word OPEN"


def changed(path: str, value: Any, base: Any = None) -> dict[str, Any]:
    """The sound caption with another value at a path of keys and indices; a missing key is added."""
    found = copy.deepcopy(SOUND if base is None else base)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    inner: Any = found
    for part in parents:
        inner = inner[part]
    inner[last] = value
    return found


def box(value: object) -> dict[str, Any]:
    """A caption with this box alone, so that no other tells its unit."""
    element = {"type": "obj", "bbox": value, "desc": "a star"}
    return {"compositional_deconstruction": {"background": "", "elements": [element]}}


def element_of(caption: str | None, index: int = 0) -> dict[str, Any]:
    assert caption is not None
    found: dict[str, Any] = json.loads(caption)["compositional_deconstruction"]["elements"][index]
    return found


# ---- taken out ----


WRAPPED = {
    "fence": f"```json\n{INDENTED}\n```",
    "fence without language": f"```\n{INDENTED}\n```",
    "fence on one line": f"```json {TEXT} ```",
    "fence that is not closed": f"```json\n{INDENTED}",
    "tildes": f"~~~\n{TEXT}\n~~~",
    "fence and prose": f"Here is it:\n\n```json\n{INDENTED}\n```\nEnjoy!",
    "fence among fences": f"```\npip install x\n```\nand\n```json\n{TEXT}\n```",
    "prose": f"Sure! Here is the caption: {TEXT} Hope this helps.",
    "prose with a brace": f"As {{asked}}: {TEXT}",
    "thinking": f"<think>The user wants {{a poster}}.</think>\n{TEXT}",
    "thinking with a draft": f'<think>{{"high_level_description": 1}}</think>{TEXT}',
    "end of thinking": f"The user wants a poster.\n</think>\n\n{TEXT}",
    "thinking and a fence": f"<thinking>x</thinking>```json\n{TEXT}\n```",
    "quoted": json.dumps(TEXT),
    "quoted twice": json.dumps(json.dumps(TEXT)),
    "list of one": json.dumps([SOUND]),
    "list of one string": json.dumps([TEXT]),
    "json_prompt": json.dumps({"aspect_ratio": "16:9", "json_prompt": SOUND}),
    "caption": json.dumps({"caption": SOUND}),
    "prompt": json.dumps({"prompt": TEXT, "seed": 3}),
    "envelope of another case": json.dumps({"jsonPrompt": SOUND}),
    "choices": json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": f"```json\n{TEXT}\n```"}}]}),
    "YAML": yaml.safe_dump(SOUND, sort_keys=False, allow_unicode=True),
    "YAML in a fence": f"```yaml\n{yaml.safe_dump(SOUND, sort_keys=False)}```",
    "comment first": f"// lighthouse v2\n{INDENTED}",
    "hash comment first": f"# lighthouse v2\n{INDENTED}",
    "comments inside": INDENTED.replace('"bbox"', '/* top */ "bbox"').replace("[\n", "[ // list\n"),
    "trailing commas": INDENTED.replace("\n  }", ",\n  }").replace("\n        }", ",\n        }"),
    "zero width space": f"\u200b{TEXT}",
    "byte order mark": f"\ufeff{TEXT}",
    "no-break spaces": INDENTED.replace("  ", "\u00a0\u00a0"),
    "curly quotes": TEXT.replace('"', "”"),
    "Python": repr(SOUND),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_caption_is_taken_out_of_what_it_came_in_and_that_is_said(kind: str) -> None:
    reading = understand(WRAPPED[kind])
    assert reading.caption == canonical(SOUND)
    assert reading.verdict == "mended" and reading.taken and not reading.done
    caption, found = accept(WRAPPED[kind])
    assert caption == canonical(SOUND) and found == list(reading.taken)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\n {INDENTED}\n",
        canonical(SOUND),
        SENTENCE,
        '"OPEN" in red',
        "[sic] a poster",
        "Style: flat",
        "elements:\n- fire\n- water",
    ],
)
def test_what_is_sound_stays_and_nothing_is_said(text: str) -> None:
    reading = understand(text)
    assert reading.verdict == "sound" and not reading.findings
    assert reading.caption == to_caption(text)


@pytest.mark.parametrize(
    "text",
    [f"```\n{SENTENCE}\n```", f"<think>hm</think>\n{SENTENCE}", json.dumps({"prompt": SENTENCE}), json.dumps([SENTENCE])],
)
def test_a_sentence_is_taken_out_as_well(text: str) -> None:
    reading = understand(text)
    assert reading.is_sentence and reading.verdict == "mended"
    assert reading.caption == to_caption(SENTENCE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT[:-1], "not valid JSON"),
        (f"Here: {TEXT[:-2]}", "looks like JSON or YAML"),
        ('"bbox": [1, 2, 3, 4]', "looks like"),
        ("compositional_deconstruction: [", "YAML"),
        ("Elements:\n- Desc: fire\n  Mood: dark", "unknown key 'Mood'"),
        ("[1, 2, 3]", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        (json.dumps([SOUND, SOUND]), "2 captions"),
        (f"{TEXT}\n{TEXT}", "2 captions"),
        (f"```\n{TEXT}\n```\nor\n```\n{TEXT}\n```", "2 captions"),
        ("<think>what could it be", "cut off"),
        ("<think>what could it be</think> ", "no answer"),
        ("high_level_description: x\nhigh_level_description: y\ncompositional_deconstruction: {}", "a key twice"),
        ("high_level_description: &a x\ncompositional_deconstruction: *a", "alias"),
        ("high_level_description: !!python/name:os.system x", "tag"),
        ("style_description:\n  color_palette:\n  - #0A2540\n", "comment; put colours in quotes"),
        ("{'a': 'x' 'y', 'elements': []}", "not valid JSON"),
        ('{"title": "x"}', "unknown key 'title'"),
        ("", "is empty"),
        ("\ufeff", "is empty"),
        ("```\n```", "is empty"),
    ],
)
def test_what_looks_like_a_caption_and_is_none_is_refused(text: str, said: str) -> None:
    reading = understand(text)
    assert reading.verdict == "refused" and reading.caption is None
    assert said in "; ".join(map(str, reading.left))
    with pytest.raises(CaptionError):
        to_caption(text)


def test_yaml_scalars_stay_what_was_written() -> None:
    text = "compositional_deconstruction:\n  background: NO\n  elements:\n  - {type: text, bbox: [0, 0, 10, 10], text: 12:30, desc: yes}"
    reading = understand(text)
    assert parse(reading.caption or "")["compositional_deconstruction"] == {
        "background": "NO",
        "elements": [{"type": "text", "bbox": [0, 0, 10, 10], "text": "12:30", "desc": "yes"}],
    }


# ---- converted ----


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ([0.06, 0.1, 0.22, 0.9], None, [60, 100, 220, 900]),
        ([0.0, 0.0, 1.0, 1.0], None, [0, 0, 1000, 1000]),
        ("0.06, 0.1, 0.22, 0.9", None, [60, 100, 220, 900]),
        ("60, 100, 220, 900", None, [60, 100, 220, 900]),
        ("[60 100 220 900]", None, [60, 100, 220, 900]),
        (["60", "100", "220", "900"], None, [60, 100, 220, 900]),
        ("6% 10% 22% 90%", None, [60, 100, 220, 900]),
        ([60.4, 100.0, 220.0, 899.6], None, [60, 100, 220, 900]),
        ([61, 102, 1126, 1843], (2048, 2048), [30, 50, 550, 900]),
        ([512, 0, 1024, 2000], (2000, 1024), [500, 0, 1000, 1000]),
        ("64px 0px 128px 64px", (128, 256), [250, 0, 500, 500]),
        ({"x": 0.1, "y": 0.06, "w": 0.8, "h": 0.16}, None, [60, 100, 220, 900]),
        ({"x1": 0.1, "y1": 0.06, "x2": 0.9, "y2": 0.22}, None, [60, 100, 220, 900]),
        ({"x": 100, "y": 60, "width": 800, "height": 160}, (1000, 1000), [60, 100, 220, 900]),
        ({"left": 10, "top": 20, "right": 110, "bottom": 220}, (400, 400), [50, 25, 550, 275]),
        ({"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 22}, (100, 100), [20, 10, 220, 110]),
    ],
)
def test_a_box_is_converted_where_its_unit_is_certain(given: object, size: tuple[int, int] | None, expected: list[int]) -> None:
    reading = understand(json.dumps(box(given)), size)
    assert element_of(reading.caption)["bbox"] == expected
    (done,) = reading.done
    assert done.place == "compositional_deconstruction.elements[0].bbox" and str(expected) in done.message


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ([61, 102, 1126, 1843], None),
        ([61, 102, 1126, 1843], (1024, 1024)),
        ({"x": 100, "y": 60, "w": 800, "h": 160}, None),
        ({"x1": 100, "y1": 60, "x2": 800, "y2": 160}, None),
        ({"x1": 100, "y1": 60}, None),
        ("left half", None),
        ("1 2 3", None),
        ([0.5, 0, 100, 100], None),
        ([-1, 0, 100, 100], None),
        ("64px 0px 128px 64px", None),
        ("6% 10% 22% 190%", None),
        ([1e300, 0, 1, 1], None),
        (True, None),
    ],
)
def test_a_box_of_an_uncertain_unit_stays_and_is_refused(given: object, size: tuple[int, int] | None) -> None:
    reading = understand(json.dumps(box(given)), size)
    assert reading.caption is None and not reading.done
    assert element_of(reading.mended)["bbox"] == given
    assert "bbox" in reading.left[0].place


def test_the_boxes_of_a_caption_are_of_one_unit() -> None:
    pixels = changed("compositional_deconstruction/elements/0/bbox", [0, 0, 512, 2048])
    whole = understand(json.dumps(pixels), (2048, 1024))
    assert [element_of(whole.caption, i)["bbox"] for i in (0, 1)] == [[0, 0, 500, 1000], [293, 171, 879, 317]]
    assert len(whole.done) == 2
    named = changed("compositional_deconstruction/elements/0/bbox", {"x": 100, "y": 60, "w": 800, "h": 160})
    assert element_of(understand(json.dumps(named)).caption)["bbox"] == [60, 100, 220, 900]  # the other one is in thousandths
    outside = changed("compositional_deconstruction/elements/0/bbox", [0, 0, 9000, 10])
    assert understand(json.dumps(outside), (2048, 1024)).caption is None
    fractions = changed(
        "compositional_deconstruction/elements/1/bbox",
        [0, 0, 1, 1],
        changed("compositional_deconstruction/elements/0/bbox", [0, 0, 0.5, 1]),
    )
    assert element_of(understand(json.dumps(fractions)).caption, 1)["bbox"] == [0, 0, 1000, 1000]


@pytest.mark.parametrize("given", [None, "null", "none", ""])
def test_no_box_is_left_out_and_said(given: object) -> None:
    reading = understand(json.dumps(box(given)))
    assert "bbox" not in element_of(reading.caption)
    assert [(each.place, each.kind) for each in reading.done] == [("compositional_deconstruction.elements[0].bbox", "left out")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("#0a2540", "#0A2540"),
        ("0A2540", "#0A2540"),
        ("#abc", "#AABBCC"),
        ("#abcf", "#AABBCC"),
        ("#0A2540FF", "#0A2540"),
        ("#0A254080", "#0A2540"),
        ("red", "#FF0000"),
        ("Dark Blue", "#00008B"),
        ("rebeccapurple", "#663399"),
        ("rgb(10, 37, 64)", "#0A2540"),
        ("rgb(10 37 64 / 50%)", "#0A2540"),
        ("RGBA(10,37,64,0.5)", "#0A2540"),
        ([10, 37, 64], "#0A2540"),
        ({"hex": "#0a2540"}, "#0A2540"),
        ({"name": "navy", "hex": "#0a2540"}, "#0A2540"),
        ("deep navy (#0a2540)", "#0A2540"),
    ],
)
def test_a_colour_is_converted_with_its_place(given: object, expected: str) -> None:
    reading = understand(json.dumps(changed("style_description/color_palette", ["#FFFFFF", given])))
    assert parse(reading.caption or "")["style_description"]["color_palette"] == ["#FFFFFF", expected]  # type: ignore[index]
    (done,) = reading.done
    assert done.place == "style_description.color_palette[1]" and expected in done.message
    assert set(strings_in(given)) == set(done.values)


@pytest.mark.parametrize(
    "given", ["ocean", "rgb(300,0,0)", "#12", "#12345", "#GGGGGG", [1, 2], [0.1, 0.2, 0.3], 7, "#111111 to #222222"]
)
def test_what_is_no_colour_stays_and_is_refused(given: object) -> None:
    reading = understand(json.dumps(changed("style_description/color_palette", ["#FFFFFF", given])))
    assert reading.caption is None
    assert parse(reading.mended or "")["style_description"]["color_palette"] == ["#FFFFFF", given]  # type: ignore[index]
    assert reading.left[0].place == "style_description.color_palette[1]"


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ("red", ["#FF0000"]),
        ("#0A2540, gold", ["#0A2540", "#FFD700"]),
        ({"members": [{"color_hex": "#0A2540", "color_weight": 0.5}]}, ["#0A2540"]),
    ],
)
def test_a_palette_of_another_form_is_a_list(palette: object, expected: list[str]) -> None:
    reading = understand(json.dumps(changed("style_description/color_palette", palette)))
    assert parse(reading.caption or "")["style_description"]["color_palette"] == expected  # type: ignore[index]


def test_colours_beyond_what_training_had_are_left_out_by_name() -> None:
    colours = [f"#0000{i:02X}" for i in range(18)]
    reading = understand(json.dumps(changed("style_description/color_palette", colours)))
    assert parse(reading.caption or "")["style_description"]["color_palette"] == colours[:16]  # type: ignore[index]
    assert reading.done[0].values[:2] == ("#000010", "#000011")


OTHER_FORMS = {
    "elements at the top": {
        "high_level_description": SOUND["high_level_description"],
        "style_description": SOUND["style_description"],
        **SOUND["compositional_deconstruction"],
    },
    "style at the top": {
        "high_level_description": SOUND["high_level_description"],
        **SOUND["style_description"],
        "compositional_deconstruction": SOUND["compositional_deconstruction"],
    },
    "key case": {key.title(): value for key, value in SOUND.items()},
    "camel case": {
        "highLevelDescription": SOUND["high_level_description"],
        "styleDescription": SOUND["style_description"],
        "compositionalDeconstruction": SOUND["compositional_deconstruction"],
    },
    "hyphens and blanks": {key.replace("_", "- "): value for key, value in SOUND.items()},
    "colour_palette": changed(
        "style_description",
        {("colour_palette" if key == "color_palette" else key): value for key, value in SOUND["style_description"].items()},
    ),
    "other order": dict(reversed(SOUND.items())) | {"style_description": dict(reversed(SOUND["style_description"].items()))},
    "description": changed(
        "compositional_deconstruction/elements/1",
        {"type": "object", "bounding_box": [300, 350, 900, 650], "description": "a lighthouse", "colours": ["#F4B942"]},
    ),
    "metadata": changed(
        "compositional_deconstruction/elements/1",
        {"bbox": [300, 350, 900, 650], "metadata": {"type": "obj", "desc": "a lighthouse", "palette": ["#F4B942"]}},
    ),
    "aspect_ratio": {"aspect_ratio": "1:1", **SOUND},
}


@pytest.mark.parametrize("kind", OTHER_FORMS)
def test_other_forms_of_a_caption_are_mended_to_it(kind: str) -> None:
    reading = understand(json.dumps(OTHER_FORMS[kind]))
    assert parse(reading.caption or "") == SOUND
    assert reading.verdict == "mended" and reading.done
    with pytest.raises(CaptionError) as refusal:  # mending is for where a person sees it
        to_caption(json.dumps(OTHER_FORMS[kind]))
    assert refusal.value.is_mendable


def test_a_list_of_elements_is_a_caption_of_them() -> None:
    boxes = [
        {
            "x": 100,
            "y": 60,
            "width": 800,
            "height": 160,
            "metadata": {"type": "text", "text": "HI", "desc": "tall", "palette": ["#FFFFFF"]},
        }
    ]
    assert understand(json.dumps(boxes)).caption is None
    assert element_of(understand(json.dumps(boxes), (2000, 1000)).caption) == {
        "type": "text",
        "bbox": [60, 50, 220, 450],
        "text": "HI",
        "desc": "tall",
        "color_palette": ["#FFFFFF"],
    }


def test_all_faults_are_named_and_whether_they_can_be_mended() -> None:
    broken = changed("style_description/color_palette", ["red", "gold"])
    with pytest.raises(CaptionError) as refusal:
        accept(json.dumps(broken))
    assert refusal.value.is_mendable and len(refusal.value.problems) == 2
    with pytest.raises(CaptionError) as refusal:
        accept(json.dumps(changed("style_description/color_palette", ["red", "ocean"])))
    assert not refusal.value.is_mendable


# ---- laws ----

WORDS = st.text("abc xyzÉ北{}[]\"'`:#,\\/\n\u200b", max_size=12)
COLOURS = st.sampled_from(["#0A2540", "#abc", "red", "#0A2540FF", "rgb(1,2,3)", "ocean", None, 7])
BOXES = st.sampled_from(
    [
        [0, 0, 10, 10],
        [0.1, 0, 1, 1],
        "1,2,3,4",
        "there",
        {"x": 1, "y": 2, "w": 3, "h": 4},
        [0, 0, 2000, 2000],
        None,
        [5, 5, 5, 5],
        [],
    ]
) | st.lists(st.integers(-5, 1200) | st.floats(0, 1100) | WORDS, min_size=3, max_size=5)
PALETTES = st.lists(COLOURS, max_size=7) | COLOURS | WORDS
ANY = st.recursive(
    st.none() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)


def spelled(*names: str) -> st.SearchStrategy[str]:
    return st.sampled_from(names).flatmap(
        lambda name: st.sampled_from([name, name.upper(), name.replace("_", "-"), name.title()])
    )


def objects(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the fields, in any order and spelling, and now and then an unknown one."""
    pairs = st.one_of(
        *(st.tuples(spelled(name) | st.just(name), value | ANY) for name, value in fields.items()), st.tuples(WORDS, ANY)
    )
    return st.lists(pairs, max_size=len(fields) + 1).map(dict)


ELEMENTS = objects(
    {
        "type": st.sampled_from(["obj", "text", "object", "sign"]),
        "bbox": BOXES,
        "text": WORDS,
        "desc": WORDS,
        "description": WORDS,
        "palette": PALETTES,
        "color_palette": PALETTES,
        "metadata": ANY,
        "id": WORDS,
    }
)
BODIES = objects({"background": WORDS, "elements": st.lists(ELEMENTS | WORDS, max_size=3)})
STYLES = objects(
    dict.fromkeys(("aesthetics", "lighting", "photo", "medium", "art_style"), WORDS) | {"colour_palette": PALETTES}
)
CAPTIONS = objects(
    {
        "high_level_description": WORDS,
        "description": WORDS,
        "style_description": STYLES,
        "compositional_deconstruction": BODIES,
        "elements": st.lists(ELEMENTS, max_size=2),
        "background": WORDS,
        "color_palette": PALETTES,
        "aspect_ratio": WORDS,
    }
)
PATHS = [
    *SOUND,
    *(f"style_description/{key}" for key in SOUND["style_description"]),
    "compositional_deconstruction/elements",
    *(
        f"compositional_deconstruction/elements/{i}/{key}"
        for i in (0, 1)
        for key in ("type", "bbox", "text", "desc", "palette")
    ),
]
MUTATED = st.builds(changed, st.sampled_from(PATHS), ANY | BOXES | PALETTES)
"""The sound caption with one thing changed."""
WRAPPERS: list[Callable[[str, str], str]] = [
    lambda text, _: text,
    lambda text, _: f"\u200b{text}",
    lambda text, _: f"```json\n{text}\n```",
    lambda text, words: f"{words}\n{text}\n{words}",
    lambda text, words: f"<think>{words}</think>{text}",
    lambda text, _: json.dumps(text),
    lambda text, _: f"[{text}]",
    lambda text, words: json.dumps({"json_prompt": json.loads(text), "note": words}),
    lambda text, words: json.dumps({"seed": words, "prompt": text}),
    lambda text, _: yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True),
    lambda text, _: repr(json.loads(text)),
]


@settings(max_examples=300, deadline=None)
@given(CAPTIONS | MUTATED, st.sampled_from(WRAPPERS), WORDS, st.sampled_from([None, (1000, 2000)]))
def test_no_word_goes_unsaid_and_mending_makes_sound_captions_once(
    value: dict[str, Any], wrap: Callable[[str, str], str], words: str, size: tuple[int, int] | None
) -> None:
    reading = understand(wrap(json.dumps(value), words), size)
    if reading.mended is not None and not reading.is_sentence:
        said = "\n".join(text for finding in reading.findings for text in finding.values)
        kept = set(strings_in(parse(reading.mended)))
        assert [text for text in strings_in(value) if text not in kept and text not in said] == []
    assert not [finding for finding in reading.findings if "\n" in str(finding)]
    if reading.caption is None:
        assert reading.left and reading.verdict == "refused"
        return
    assert [issue for issue in lint(parse(reading.caption)) if issue.severity == "error"] == []
    again = understand(reading.caption, size)
    assert (again.caption, again.taken, again.done) == (reading.caption, (), ())
    assert to_caption(reading.caption) == reading.caption


@settings(max_examples=300, deadline=None)
@given(st.text("{}[]()\"'`~<>/*#&!|:,-\\ \nabétrue0.1\u200b", max_size=80) | st.text())
def test_any_text_is_read_or_refused_in_single_lines(text: str) -> None:
    for finding in understand(text).findings:
        assert isinstance(finding, Finding) and "\n" not in str(finding)


LONG = 32_000
HOSTILE = {
    "quotes": '{"' + '\\"' * (LONG // 2),
    "escape at the end": '{"' + '\\"' * (LONG // 2) + "\\",
    "braces": "{" * LONG,
    "keys": '{"a":' * (LONG // 5),
    "brackets": "compositional_deconstruction: " + "[" * LONG,
    "lists": "[" * LONG,
    "fences": "```" * (LONG // 3),
    "fenced captions": '```\n{"elements": \n```' * (LONG // 20),
    "commas": '{"elements": [' + ", " * (LONG // 2),
    "comments": "{/" + "/*" * (LONG // 2),
    "thoughts": "<think>" * (LONG // 7),
    "YAML lines": "elements: \n" + "- a: b\n" * (LONG // 8),
    "YAML keys": "elements: {" + "? a " * (LONG // 4),
    "YAML blanks": "style_description" + " " * LONG,
    "aliases": "elements: &a [x]\n" + "- *a\n" * 6000,
    "minus": '{"elements": ' + "-" * LONG + "1}",
    "parentheses": '{"elements": ' + "(" * LONG,
    "envelopes": '{"caption":' * (LONG // 12) + "1" + "}" * (LONG // 12),
    "empty objects": '{"elements": [' + "{}," * (LONG // 3),
    "rgb": json.dumps(changed("style_description/color_palette", "rgb(1," + " " * (LONG // 2))),
    "colours": json.dumps(changed("style_description/color_palette", ["#"] * (LONG // 6))),
    "digits": json.dumps(box("1" * (LONG // 2))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_longest_text_is_read_in_no_time(kind: str) -> None:
    start = time.process_time()
    reading = understand(HOSTILE[kind])
    assert reading.caption is None or reading.is_sentence
    assert time.process_time() - start < 5  # what is quadratic takes minutes
