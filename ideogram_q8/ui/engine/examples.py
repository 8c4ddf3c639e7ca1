"""Example captions of the pocket's world: one background, one shape, one short word, boxes on multiples of 125."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A caption as a person would type it, and what its button says."""

    label: str
    caption: str


def _poster(background: str, shape: str, shape_box: list[int], word: str, colour: str, word_box: list[int]) -> str:
    elements = [
        {"type": "text", "bbox": word_box, "text": word, "desc": f"{colour} letters"},
        {"type": "obj", "bbox": shape_box, "desc": shape},
    ]
    caption = {"compositional_deconstruction": {"background": f"plain {background}", "elements": elements}}
    return _readable(caption)


def _readable(caption: object) -> str:
    """JSON with one element per line: short enough for the caption box, and still one `json.loads` away."""
    text = json.dumps(caption, ensure_ascii=False)
    return text.replace('"elements": [', '"elements": [\n  ').replace("}, {", "},\n  {").replace("}]}", "}\n]}")


EXAMPLES: tuple[Example, ...] = (
    Example(
        "House, OPEN",
        _poster("teal", "a red house", [375, 250, 875, 750], "OPEN", "white", [0, 0, 250, 1000]),
    ),
    Example(
        "Star, MOON",
        _poster("black", "a yellow star", [125, 250, 625, 750], "MOON", "white", [750, 0, 1000, 1000]),
    ),
    Example(
        "Flower, JOY",
        _poster("white", "a purple flower", [250, 0, 750, 500], "JOY", "blue", [750, 250, 1000, 1000]),
    ),
    Example(
        "Fish, FISH",
        _poster("blue", "an orange fish", [125, 375, 625, 875], "FISH", "yellow", [625, 0, 875, 1000]),
    ),
    Example("Heart, in words", "a red heart and the word LOVE in purple on a white background"),
    Example("Crown, in words", "a yellow crown and the word KING in white on a purple background"),
)
