"""Letters on contact sheets and comparisons: DejaVu Sans, which matplotlib brings; Pillow's own font ends with ASCII."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """For letters of `size` px: Latin, Greek, Cyrillic, Arabic, Hebrew and signs; a script that it lacks is drawn as boxes."""
    import matplotlib as mpl  # a fifth of a second, for which the app's page does not wait

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
