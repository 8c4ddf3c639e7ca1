"""The example captions are valid and lie within what the pocket was trained on."""

from __future__ import annotations

import pytest

from ideogram_q8.captions import lint, parse, to_caption
from ideogram_q8.pocket import data
from ideogram_q8.ui.engine.examples import EXAMPLES, Example

STRUCTURED = [example for example in EXAMPLES if example.caption.startswith("{")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.label)
def test_every_example_becomes_a_valid_caption(example: Example) -> None:
    assert lint(parse(to_caption(example.caption))) == []


@pytest.mark.parametrize("example", STRUCTURED, ids=lambda example: example.label)
def test_structured_examples_lie_in_the_world_of_the_pocket(example: Example) -> None:
    composition = parse(example.caption)["compositional_deconstruction"]
    assert isinstance(composition, dict)
    background = composition["background"].removeprefix("plain ")
    word, shape = composition["elements"]
    assert word["desc"].removesuffix(" letters") in data.contrasting(background)
    _, colour, noun = shape["desc"].split()
    assert noun in data.NOUNS and colour in data.contrasting(background)
    assert all(value % data.TILE == 0 for element in (word, shape) for value in element["bbox"])
    top, left, bottom, right = word["bbox"]
    assert (bottom - top, right - left) == (2 * data.TILE, 2 * data.TILE * len(word["text"]))


def test_plain_examples_read_like_the_training_sentences() -> None:
    plain = [example.caption for example in EXAMPLES if example not in STRUCTURED]
    assert plain
    for sentence in plain:
        _, colour, noun, *rest = sentence.split()
        background, ink, word = rest[-2], rest[5], rest[3]
        shape = data.Shape(noun, colour, data.PLAIN_SHAPE_BOX)
        scene = data.Scene(background, shape, data.Word(word, ink, (750, 0, 1000, 1000)), plain=True)
        assert data.plain_sentence(scene) == sentence
        assert {ink, colour} <= set(data.contrasting(background))
