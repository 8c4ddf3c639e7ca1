"""The sheet: pictures in it are the pictures, whatever is written around them."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from ideogram_q8.ui.engine.sheet import Panel, sheet


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def contains(made: Image.Image, picture: Image.Image) -> bool:
    corner = picture.tobytes()[: 3 * picture.width]
    for top in range(made.height - picture.height + 1):
        row = made.crop((0, top, made.width, top + 1)).tobytes()
        at = row.find(corner)
        if at >= 0 and at % 3 == 0:
            part = made.crop((at // 3, top, at // 3 + picture.width, top + picture.height))
            return ImageChops.difference(part, picture).getbbox() is None
    return False


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2])
def test_every_picture_is_there_pixel_for_pixel(count: int, rows: int) -> None:
    panels = [[Panel(noise(64, 48), f"variant {i}", ["PSNR 40 dB", "0.1 s"]) for i in range(count)] for _ in range(rows)]
    made = sheet(panels, "a caption " * 100, "seed 7")
    assert all(contains(made, panel.picture) for row in panels for panel in row)


def test_empty_words_and_odd_scripts_are_no_trouble() -> None:
    made = sheet([[Panel(noise(300, 20), "", []), Panel(noise(300, 20), "\u05d0 \u4e2d <b>", ["\0"])]], "", "")
    assert made.mode == "RGB" and made.width > 600
