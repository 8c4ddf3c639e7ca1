"""Captions to measure with: each has its own seed, so that a suite alone pins every picture.

    ideogram               300 captions in 20 categories, the project's own (`captions`)
    ideogram-calibration   128 others from the same hand, to calibrate with
    pocket                 300 scenes of the pocket's world, each with a word that training never used
    pocket-calibration     32 scenes such as it was trained on

A seed derives from its case's id, so that adding or dropping captions changes no other picture.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ideogram_q8.captions.suites import table
from ideogram_q8.errors import RequestError
from ideogram_q8.pocket import data
from ideogram_q8.pocket.tokenizer import caption_text

POCKET_COUNT = 300
POCKET_CALIBRATION_COUNT = 32
_SCRIPTS = frozenset("LATIN CYRILLIC GREEK ARABIC HEBREW DEVANAGARI THAI CJK HIRAGANA KATAKANA HANGUL".split())


@dataclass(frozen=True)
class Text:
    """Words that the picture must show, and where: `bbox` is (ymin, xmin, ymax, xmax) in thousandths, None where left free."""

    text: str
    bbox: tuple[int, int, int, int] | None

    @property
    def scripts(self) -> frozenset[str]:
        """Scripts of the text's letters in lower case, such as latin or cjk; none for digits. They tell which OCR model reads it."""
        first = {unicodedata.name(letter, "").replace("-", " ").split(" ")[0] for letter in self.text if letter.isalpha()}
        return frozenset(word.lower() for word in first & _SCRIPTS)


@dataclass(frozen=True)
class Case:
    """A canonical caption, its seed, and the texts that it asks for in the order of its elements; `id` is category/name."""

    id: str
    caption: str
    seed: int
    category: str
    texts: tuple[Text, ...]


@dataclass(frozen=True)
class CaptionSuite:
    """A named list of cases."""

    name: str
    cases: tuple[Case, ...]

    @property
    def sha256(self) -> str:
        """Over the cases as JSON; the name is not in it."""
        return hashlib.sha256(json.dumps([asdict(case) for case in self.cases]).encode()).hexdigest()

    def first(self, count: int) -> CaptionSuite:
        """The first `count` cases, named after their number; the suite itself where it has no more."""
        return self if count >= len(self.cases) else CaptionSuite(f"{self.name}-{count}", self.cases[:count])


def seed_of(identifier: str) -> int:
    """31 bits of the SHA-256 of a case's id."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:4], "big") & 0x7FFF_FFFF


def get(name: str) -> CaptionSuite:
    """The suite of that name.

    Raises:
        RequestError: there is none; names those there are.
    """
    if name not in _SUITES:
        raise RequestError(f"got the suite {name!r}, expected one of {', '.join(NAMES)}")
    return _cached(name)


def _written(collection: table.Collection) -> tuple[Case, ...]:
    cases = []
    for row in table.rows(collection):
        texts = tuple(Text(element.text, element.bbox) for element in row.elements if element.text is not None)
        identifier = f"{row.category}/{row.name}"
        cases.append(Case(identifier, row.caption(), seed_of(identifier), row.category, texts))
    return tuple(cases)


def _pocket() -> tuple[Case, ...]:
    return tuple(_scene_case("pocket", i, scene) for i, scene in enumerate(data.held_out_scenes(POCKET_COUNT)))


def _pocket_calibration() -> tuple[Case, ...]:
    rng = random.Random("calibration/2026")
    scenes = [data.sample_scene(rng) for _ in range(POCKET_CALIBRATION_COUNT)]
    return tuple(_scene_case("pocket-calibration", i, scene) for i, scene in enumerate(scenes))


def _scene_case(collection: str, index: int, scene: data.Scene) -> Case:
    """A plain sentence names no box, though the pocket learned to paint its word in one place."""
    identifier, word = f"{collection}/{index:03}", scene.word
    if word is None:
        return Case(identifier, caption_text(scene), seed_of(identifier), "no-word", ())
    texts = (Text(word.text, None if scene.plain else word.bbox),)
    return Case(identifier, caption_text(scene), seed_of(identifier), f"{len(word.text)}-letters", texts)


_SUITES: dict[str, Callable[[], tuple[Case, ...]]] = {
    "ideogram": lambda: _written("evaluation"),
    "ideogram-calibration": lambda: _written("calibration"),
    "pocket": _pocket,
    "pocket-calibration": _pocket_calibration,
}
NAMES = tuple(_SUITES)


@functools.lru_cache(maxsize=len(_SUITES))
def _cached(name: str) -> CaptionSuite:
    return CaptionSuite(name, _SUITES[name]())
