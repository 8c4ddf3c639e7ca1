"""Laws of the pocket's world: boxes on the grid, no overlaps, held-out words never trained on, pictures as described."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ideogram_q8.pocket import data


def scenes(count: int = 400) -> list[data.Scene]:
    rng = random.Random(7)
    return [data.sample_scene(rng) for _ in range(count)]


def test_a_seed_gives_the_same_scenes() -> None:
    assert scenes() == scenes()


def test_boxes_lie_on_the_token_grid_inside_the_canvas() -> None:
    for scene in scenes():
        for item in (scene.shape, scene.word):
            if item is not None:
                top, left, bottom, right = item.bbox
                assert 0 <= top < bottom <= 1000 and 0 <= left < right <= 1000
                assert all(value % data.TILE == 0 for value in item.bbox)


def test_shape_and_word_do_not_overlap() -> None:
    for scene in scenes():
        if scene.shape is not None and scene.word is not None:
            assert scene.shape.bbox[2] <= scene.word.bbox[0] or scene.word.bbox[2] <= scene.shape.bbox[0]


def test_held_out_words_are_never_drawn_for_training() -> None:
    assert not set(data.HELD_OUT_WORDS) & set(data.TRAIN_WORDS)
    drawn = {scene.word.text for scene in scenes(4000) if scene.word is not None}
    assert not drawn & set(data.HELD_OUT_WORDS)


def test_what_lies_on_the_background_can_be_told_from_it() -> None:
    for scene in scenes():
        for item in (scene.shape, scene.word):
            if item is not None:
                difference = np.subtract(data.COLOURS[item.colour], data.COLOURS[scene.background])
                assert np.linalg.norm(difference) >= data.MIN_CONTRAST


def test_the_silhouettes_differ_from_each_other() -> None:
    masks = {noun: np.asarray(data.shape_mask(noun, 48, 48), dtype=float) / 255 for noun in data.NOUNS}
    assert len(masks) == 24
    for i, first in enumerate(data.NOUNS):
        assert 0.05 < masks[first].mean() < 0.95
        for second in data.NOUNS[i + 1 :]:
            assert np.abs(masks[first] - masks[second]).mean() > 0.03, (first, second)


@pytest.mark.parametrize("scene", data.held_out_scenes(8))
def test_a_picture_has_its_background_around_and_its_ink_inside_the_boxes(scene: data.Scene) -> None:
    pixels = data.to_array(data.render(scene))
    outside = np.ones(pixels.shape[:2], dtype=bool)
    for item in (scene.shape, scene.word):
        assert item is not None
        top, left, bottom, right = data.pixel_box(item.bbox)
        outside[top:bottom, left:right] = False
        inside = pixels[top:bottom, left:right].reshape(-1, 3)
        assert (inside == data.COLOURS[item.colour]).all(1).mean() > 0.1
    assert (pixels[outside] == data.COLOURS[scene.background]).all()
