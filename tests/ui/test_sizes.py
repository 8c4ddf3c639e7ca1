"""Sizes by shape and area: always paintable, and as near as a multiple of 16 allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.model.architecture import IDEOGRAM4_TRAITS, Traits, check_size
from ideogram_q8.ui.engine.sizes import RATIOS, megapixels_range, size_of

POCKET = Traits("Pocket", 64, 256, (128, 128), (3.0, 2.0))


@given(st.sampled_from(RATIOS), st.floats(0.0, 20.0), st.sampled_from([IDEOGRAM4_TRAITS, POCKET]))
def test_every_size_can_be_painted(ratio: str, megapixels: float, traits: Traits) -> None:
    check_size(*size_of(ratio, megapixels, traits), traits)


@given(st.sampled_from(RATIOS), st.floats(0.4, 1.7))
def test_shape_and_area_are_kept_where_there_is_room(ratio: str, megapixels: float) -> None:
    width, height = size_of(ratio, megapixels, IDEOGRAM4_TRAITS)
    across, down = (int(part) for part in ratio.split(":"))
    assert width / height == pytest.approx(across / down, rel=0.05)
    assert width * height / 1e6 == pytest.approx(megapixels, rel=0.06)


def test_known_sizes() -> None:
    assert size_of("1:1", 1.048576, IDEOGRAM4_TRAITS) == (1024, 1024)
    assert size_of("16:9", 2.0736, IDEOGRAM4_TRAITS) == (1920, 1088)
    assert size_of("1:1", 4.2, IDEOGRAM4_TRAITS) == (2048, 2048)
    assert megapixels_range(POCKET) == (0.004, 0.066, 0.016)
    assert size_of("1:1", 0.016, POCKET) == (128, 128) and size_of("1:1", 1.049, IDEOGRAM4_TRAITS) == (1024, 1024)
