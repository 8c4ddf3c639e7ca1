"""Captions to measure with: each has its own seed, so that a suite alone pins every picture."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from ideogram_q8.pocket import data
from ideogram_q8.pocket.tokenizer import caption_text


@dataclass(frozen=True)
class Case:
    """A canonical caption, its seed, the words it asks for and the full-width band they stand in (top, bottom, thousandths)."""

    caption: str
    seed: int
    word: str
    band: tuple[int, int]


@dataclass(frozen=True)
class CaptionSuite:
    """A named list of cases."""

    name: str
    cases: tuple[Case, ...]

    @property
    def sha256(self) -> str:
        """Over the cases as JSON."""
        return hashlib.sha256(json.dumps([asdict(case) for case in self.cases]).encode()).hexdigest()


def pocket_suite(count: int) -> CaptionSuite:
    """The first `count` held-out captions of the pocket's world: a shape, and a word it was never trained on, seeds 0, 1, ..."""
    cases = []
    for seed, scene in enumerate(data.held_out_scenes(count)):
        assert scene.word is not None
        top, _, bottom, _ = scene.word.bbox
        cases.append(Case(caption_text(scene), seed, scene.word.text, (top, bottom)))
    return CaptionSuite(f"pocket-held-out-{count}", tuple(cases))
