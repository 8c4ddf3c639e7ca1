"""Laws of the suites: pinned by their hashes, seeds from ids, texts as the captions say, nothing trained or calibrated on."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from ideogram_q8.captions import canonical, lint, parse, suite
from ideogram_q8.captions.suite import NAMES, Case, Text, get, seed_of
from ideogram_q8.errors import RequestError
from ideogram_q8.pocket import data

PINNED = {
    "ideogram": (300, "2797d3575ab76988fd47fbf5582a935c889a4dce717359f8421800b9a2869b07"),
    "ideogram-calibration": (128, "845327123306aeee62cd3498542b08fb859fea75ac78616f5a8ef80ff347fe98"),
    "pocket": (300, "db60cfdda73e4d8992db9b411d68c3716a1ab5a5bf90b96b3d04dc3f8c2a82f6"),
    "pocket-calibration": (32, "6bc71155d7a7f713a8686eb49df4bcf100a6924eef23f2169b495371f6f7bca8"),
}
"""A changed hash makes every published figure of a suite one of another suite."""


def words_of(caption: str) -> list[tuple[object, object]]:
    """Text and box of the text elements of a JSON caption."""
    composition = parse(caption)["compositional_deconstruction"]
    assert isinstance(composition, dict)
    return [(e["text"], e.get("bbox")) for e in composition["elements"] if e["type"] == "text"]


def test_the_suites_are_pinned():
    assert set(NAMES) == set(PINNED)
    assert {name: (len(get(name).cases), get(name).sha256) for name in NAMES} == PINNED


def test_the_hash_sees_every_field():
    whole = get("pocket").first(2)
    first, second = whole.cases
    changed = {"id": "x", "caption": "x", "seed": 0, "category": "x", "texts": ()}
    assert set(changed) == {field.name for field in dataclasses.fields(Case)}
    hashes = {
        dataclasses.replace(whole, cases=(dataclasses.replace(first, **{k: v}), second)).sha256 for k, v in changed.items()
    }
    assert len(hashes | {whole.sha256}) == 1 + len(changed)
    assert dataclasses.replace(whole, cases=(second, first)).sha256 != whole.sha256
    assert dataclasses.replace(whole, name="other").sha256 == whole.sha256


@pytest.mark.parametrize("name", NAMES)
def test_ids_seeds_and_captions_are_unique_and_canonical(name: str):
    cases = get(name).cases
    for values in ([case.id for case in cases], [case.seed for case in cases], [case.caption for case in cases]):
        assert len(set(values)) == len(cases)
    for case in cases:
        assert case.seed == seed_of(case.id) and 0 <= case.seed < 2**31
        assert canonical(case.caption) == case.caption and lint(parse(case.caption)) == []


def test_a_seed_is_31_bits_of_the_ids_sha256():
    assert seed_of("") == 0xE3B0C442 & 0x7FFFFFFF  # SHA-256 of nothing starts with e3b0c442


@pytest.mark.parametrize("name", ["ideogram", "ideogram-calibration", "pocket"])
def test_texts_are_those_of_the_captions_elements(name: str):
    for case in get(name).cases:
        assert words_of(case.caption) == [(text.text, None if text.bbox is None else list(text.bbox)) for text in case.texts]


def test_a_plain_sentence_asks_for_its_word_without_a_place():
    plain = [case for case in get("pocket-calibration").cases if not words_of(case.caption) and case.texts]
    assert plain
    for case in plain:
        assert case.texts[0].bbox is None and f"the word {case.texts[0].text} " in case.caption


@pytest.mark.parametrize("name", ["ideogram", "pocket"])
def test_nothing_measured_was_calibrated_with(name: str):
    measured, calibrated = get(name), get(f"{name}-calibration")
    assert not {case.caption for case in measured.cases} & {case.caption for case in calibrated.cases}
    assert not {case.seed for case in measured.cases} & {case.seed for case in calibrated.cases}
    assert not {t.text for case in measured.cases for t in case.texts} & {
        t.text for case in calibrated.cases for t in case.texts
    }


def test_the_pockets_words_were_all_held_out_and_each_occurs():
    asked = Counter(text.text for case in get("pocket").cases for text in case.texts)
    assert set(asked) == set(data.HELD_OUT_WORDS) and sum(asked.values()) == 300
    assert Counter(case.category for case in get("pocket").cases).keys() == {"3-letters", "4-letters"}


def test_the_writing_systems_are_those_that_the_categories_name():
    wanted = {
        "cyrillic-greek": {"cyrillic": 8, "greek": 7},
        "arabic-hebrew-devanagari-thai": {"arabic": 4, "hebrew": 4, "devanagari": 4, "thai": 3},
        "cjk": {"cjk": 9, "hiragana": 3, "katakana": 2, "hangul": 5},
    }
    for category, least in wanted.items():
        cases = [case for case in get("ideogram").cases if case.category == category]
        found = Counter(script for case in cases for script in set().union(*(text.scripts for text in case.texts)))
        assert all(set().union(*(text.scripts for text in case.texts)) & set(least) for case in cases)
        assert "latin" not in found
        assert {script: found[script] for script in least} == least, category
    others = [case for case in get("ideogram").cases if case.category not in wanted]
    assert {script for case in others for text in case.texts for script in text.scripts} == {"latin"}


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("CAFÉ 24", {"latin"}),
        ("4° & 12.50", set()),
        ("ХЛЕБ", {"cyrillic"}),
        ("ラーメン", {"katakana"}),
        ("紙とペン", {"cjk", "hiragana", "katakana"}),
        ("한옥 카페", {"hangul"}),
        ("गरम चाय", {"devanagari"}),
    ],
)
def test_scripts_are_told_by_the_letters(text: str, scripts: set[str]):
    assert Text(text, None).scripts == scripts


def test_the_first_cases_are_a_suite_of_their_own_name():
    part = get("ideogram").first(20)
    assert part.name == "ideogram-20" and part.cases == get("ideogram").cases[:20]
    assert get("pocket").first(300) is get("pocket")


def test_an_unknown_suite_is_refused_with_the_names():
    with pytest.raises(RequestError, match="expected one of ideogram, ideogram-calibration, pocket, pocket-calibration"):
        suite.get("ideogram-300")
