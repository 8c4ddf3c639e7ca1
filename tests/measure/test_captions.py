"""Laws of the written captions: what each category promises, and nothing shared between measuring and calibrating."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

import pytest

from ideogram_q8.captions import canonical, lint, parse
from ideogram_q8.captions.suites import table
from ideogram_q8.captions.suites.styles import PALETTES, STYLES
from ideogram_q8.captions.suites.table import CATEGORIES, CaptionRow, SuiteElement
from ideogram_q8.errors import CaptionError

EVALUATION, CALIBRATION = table.rows("evaluation"), table.rows("calibration")
ALL = (*EVALUATION, *CALIBRATION)
MOST_TOKENS = 2048 - 64
"""Of the text encoder, less the chat template; a token is at least one byte."""


def texts(row: CaptionRow) -> list[str]:
    return [element.text for element in row.elements if element.text is not None]


def prose(row: CaptionRow) -> list[str]:
    return re.findall(r"\w+", " ".join([row.description, row.background, *(e.desc for e in row.elements)]).lower())


def boxes(row: CaptionRow) -> list[tuple[int, int, int, int]]:
    return [element.bbox for element in row.elements if element.bbox is not None]


def of(category: str) -> list[CaptionRow]:
    return [row for row in ALL if row.category == category]


def test_every_category_has_its_share():
    assert Counter(row.category for row in EVALUATION) == dict.fromkeys(CATEGORIES, 15)
    shares = Counter(row.category for row in CALIBRATION)
    assert set(shares) == set(CATEGORIES) and set(shares.values()) == {6, 7} and len(CALIBRATION) == 128


@pytest.mark.parametrize("category", CATEGORIES)
def test_captions_are_canonical_clean_and_short_enough(category: str):
    for row in of(category):
        text = row.caption()
        assert lint(parse(text)) == [], row.name
        assert canonical(text) == text
        assert len(text.encode()) <= MOST_TOKENS, row.name


def test_boxes_have_an_area_that_can_be_seen():
    for row in ALL:
        for ymin, xmin, ymax, xmax in boxes(row):
            assert min(ymin, xmin) >= 0 and max(ymax, xmax) <= 1000
            assert ymax - ymin >= 20 and xmax - xmin >= 30, row.name


def test_no_text_stands_over_another():
    for row in ALL:
        areas = [element.bbox for element in row.elements if element.text is not None and element.bbox is not None]
        for a, b in itertools.combinations(areas, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], row.name


def test_some_captions_leave_all_places_free_and_none_only_some():
    free = [row for row in EVALUATION if not boxes(row)]
    assert 20 <= len(free) <= 60
    assert all(len(boxes(row)) in (0, len(row.elements)) for row in ALL)


PROMISES: dict[str, Callable[[CaptionRow], bool]] = {
    "short-words": lambda row: len(texts(row)) == 1 and bool(re.fullmatch(r"\w{2,8}", texts(row)[0])),
    "long-sentences": lambda row: len(texts(row)) == 1 and len(texts(row)[0].split()) >= 8,
    "text-blocks": lambda row: len(texts(row)) >= 3,
    "small-text": lambda row: all(e.bbox is not None and e.bbox[2] - e.bbox[0] <= 50 for e in row.elements if e.text),
    "numbers": lambda row: bool(texts(row)) and all(re.search(r"\d", text) for text in texts(row)),
    "hands": lambda row: any(word.startswith(("hand", "finger")) for word in prose(row)),
    "products": lambda row: any(word in row.style for word in "studio packaging tabletop flatlay editorial".split()),
    "charts": lambda row: bool(texts(row)),
    "hex-palettes": lambda row: len(row.palette) >= 3 and any(e.palette for e in row.elements),
    "box-layouts": lambda row: len(boxes(row)) >= 5,
    "photographic-styles": lambda row: STYLES[row.style].photo is not None,
    "drawn-styles": lambda row: STYLES[row.style].art_style is not None,
}


@pytest.mark.parametrize("category", PROMISES)
def test_a_category_keeps_its_promise(category: str):
    assert [row.name for row in of(category) if not PROMISES[category](row)] == []


def test_texts_are_in_the_form_that_readers_give_back():
    """Normalization form C, single spaces."""
    for text in (text for row in ALL for text in texts(row)):
        assert unicodedata.is_normalized("NFC", text) and " ".join(text.split()) == text


def test_photographs_and_drawings_are_both_common():
    drawn = sum(STYLES[row.style].art_style is not None for row in EVALUATION)
    assert 0.3 < drawn / len(EVALUATION) < 0.7
    assert {row.style for row in EVALUATION} == set(STYLES)
    assert {row.palette for row in EVALUATION} >= set(PALETTES.values())


def test_nothing_is_said_twice():
    for values in (
        [(row.category, row.name) for row in ALL],
        [row.description for row in ALL],
        [row.caption() for row in ALL],
        [text.casefold() for row in ALL for text in texts(row)],
        [element.desc for row in ALL for element in row.elements if element.text is None],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


def test_calibration_and_evaluation_share_no_picture():
    """Of any pair, at most a fifth of the shorter one's three-word runs."""

    def runs(row: CaptionRow) -> set[tuple[str, ...]]:
        words = prose(row)
        return set(zip(words, words[1:], words[2:], strict=False))

    seen = [runs(row) for row in EVALUATION]
    for row in CALIBRATION:
        own = runs(row)
        for other, theirs in zip(EVALUATION, seen, strict=True):
            assert len(own & theirs) <= 0.2 * min(len(own), len(theirs)), (row.name, other.name)


ROW = """# a remark
@ kite | studio | soft light | #102030 #FFFFFF
A kite.
~ sky
T 10,20,300,400 "HI" tall letters #FFFFFF
O - a red kite
"""


def test_a_row_is_read_as_it_is_written():
    (row,) = table.parse("animals", ROW)
    assert (row.category, row.name, row.palette) == ("animals", "kite", ("#102030", "#FFFFFF"))
    assert row.elements == (
        SuiteElement("HI", (10, 20, 300, 400), "tall letters", ("#FFFFFF",)),
        SuiteElement(None, None, "a red kite", ()),
    )
    assert row.caption() == (
        '{"high_level_description":"A kite.","style_description":{"aesthetics":"clean, precise, commercial",'
        '"lighting":"soft light","photo":"100mm lens, seamless backdrop, everything sharp","medium":"photograph",'
        '"color_palette":["#102030","#FFFFFF"]},"compositional_deconstruction":{"background":"sky","elements":['
        '{"type":"text","bbox":[10,20,300,400],"text":"HI","desc":"tall letters","color_palette":["#FFFFFF"]},'
        '{"type":"obj","desc":"a red kite"}]}}'
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@ kite", "kite", "line 6: expected '@ name"),
        ("~ sky\n", "", "expected '@ name"),
        ("studio", "stuido", "with a style of styles.py"),
        ("#FFFFFF\nA", "#FFFFFF | x\nA", "with a style of styles.py"),
        ("#102030", "#10203", "got the palette '#10203 #FFFFFF'"),
        ('T 10,20,300,400 "HI"', "T 10,20,300,400", "expected 'T box"),
        ("O - a", 'O - "HI" a', "expected 'T box"),
        ("O - a", "O 1,2,3 a", "expected 'T box"),
    ],
)
def test_a_row_that_is_malformed_is_refused_with_its_place(old: str, new: str, message: str):
    assert old in ROW
    with pytest.raises(CaptionError, match=re.escape(message)) as refusal:
        table.parse("animals", ROW.replace(old, new))
    assert str(refusal.value).startswith("animals.txt: the caption that ends in line")
