"""The verdict of a comparison in words."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from ideogram_q8.ui.engine.comparison import Cell, Column
from ideogram_q8.ui.engine.judge import Words
from ideogram_q8.ui.parts.verdicts import verdicts


def column(title: str, psnr: float | None, read: str | None) -> Column:
    picture: Any = SimpleNamespace()
    scores = None if psnr is None else {"psnr": psnr, "ssim": 1.0, "lpips": None}
    words = None if read is None else ((Words("OPEN", read),) if read else ())
    return Column(title.lower(), title, 1, (Cell(picture, scores, words),))


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ("OPEN", "as many texts read exactly as with FP8, 1 of 1."),
        ("OPFN", "fewer texts read exactly than with FP8, 0 of 1 against 1."),
        (None, "the words were not read."),
        ("", "the caption asks for no words."),
    ],
)
def test_words_come_first(read: str | None, words: str) -> None:
    said = verdicts([column("FP8", None, "" if read == "" else "OPEN"), column("INT8", 38.0, read)])
    assert said[0] == f"INT8: {words} A pixel differs from FP8's by 3.2 of 255 levels (root mean square)."
    assert said[-1].startswith("One caption on one seed says little")


def test_the_same_picture_is_called_the_same() -> None:
    said = verdicts([column("FP8", None, None), column("FP8 again", math.inf, None)])
    assert "that of FP8, pixel for pixel" in said[0]
