"""Reading text out of pictures: PP-OCR of the `rapidocr` package (3.10), which ships its models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Reader = Callable[[Image.Image], str]
"""From an RGB picture to the text found in it, findings joined by a space."""


def reader() -> Reader:
    """A reader that works offline; detection at 320 pixels, no angle classifier (it turns a lone letter around)."""
    from rapidocr import RapidOCR  # a test and evaluation dependency, not one of the app

    engine = RapidOCR(params={"Global.log_level": "error", "Det.limit_side_len": 320})

    def read(picture: Image.Image) -> str:
        found = engine(np.asarray(picture)[:, :, ::-1], use_det=True, use_cls=False, use_rec=True)
        return " ".join(found.txts or ())

    return read


def band(picture: Image.Image, top: int, bottom: int) -> Image.Image:
    """The full-width band between two heights in thousandths, framed in its commonest edge colour and enlarged three times."""
    rows = picture.crop((0, round(top * picture.height / 1000), picture.width, round(bottom * picture.height / 1000)))
    pixels = np.asarray(rows)
    edge = np.median(np.concatenate([pixels[0], pixels[-1]]), axis=0)
    framed = Image.new("RGB", (rows.width + 32, rows.height + 32), tuple(int(v) for v in edge))
    framed.paste(rows, (16, 16))
    return framed.resize((framed.width * 3, framed.height * 3), Image.Resampling.BICUBIC)
