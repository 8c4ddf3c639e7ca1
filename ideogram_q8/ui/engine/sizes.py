"""Sizes by shape and area: what people think in, in pixels that the model can paint."""

from __future__ import annotations

import math

from ideogram_q8.model.architecture import MAX_ASPECT, SIDE_MULTIPLE, Traits

RATIOS = ("1:1", "5:4", "4:3", "3:2", "16:9", "21:9", "4:5", "3:4", "2:3", "9:16")


def size_of(ratio: str, megapixels: float, traits: Traits) -> tuple[int, int]:
    """Width and height of about that shape and area, within what `traits` allow; the shape gives way last.

    Args:
        ratio: `width:height`.
        megapixels: millions of pixels.
    """
    across, down = (int(part) for part in ratio.split(":"))
    aspect = min(max(across / down, 1 / MAX_ASPECT), MAX_ASPECT)
    low = traits.min_side * max(math.sqrt(aspect), 1 / math.sqrt(aspect))
    high = traits.max_side / max(math.sqrt(aspect), 1 / math.sqrt(aspect))
    side = min(max(math.sqrt(megapixels * 1e6), low), high)
    return _rounded(side * math.sqrt(aspect), traits), _rounded(side / math.sqrt(aspect), traits)


def _rounded(side: float, traits: Traits) -> int:
    return min(max(round(side / SIDE_MULTIPLE) * SIDE_MULTIPLE, traits.min_side), traits.max_side)


def megapixels_range(traits: Traits) -> tuple[float, float, float]:
    """Smallest, largest and default area of a square picture, in millions of pixels, to three digits."""
    width, height = traits.default_size
    return round(traits.min_side**2 / 1e6, 3), round(traits.max_side**2 / 1e6, 3), round(width * height / 1e6, 3)
