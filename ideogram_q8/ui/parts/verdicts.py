"""What a comparison says in words: the words read first, then how far the pictures are apart. No grades: no study drew their borders."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ideogram_q8.ui.engine.comparison import Column


def verdicts(columns: Sequence[Column]) -> list[str]:
    """A sentence or two for each variant but the first, which is the reference; and what one comparison cannot say."""
    reference, *others = columns
    captions = "One caption on one seed says" if len(reference.cells) == 1 else "One caption says"
    return [
        *(f"{column.title}: {_words(column, reference)} {_likeness(column, reference)}" for column in others),
        f"{captions} little about a build: a blind vote over many pictures says more.",
    ]


def _words(column: Column, reference: Column) -> str:
    ours, theirs = column.words, reference.words
    if ours is None or theirs is None:
        return "the words were not read."
    if ours[1] == 0:
        return "the caption asks for no words."
    if ours[0] == theirs[0]:
        return f"as many texts read exactly as with {reference.title}, {ours[0]} of {ours[1]}."
    more = "more" if ours[0] > theirs[0] else "fewer"
    return f"{more} texts read exactly than with {reference.title}, {ours[0]} of {ours[1]} against {theirs[0]}."


def _likeness(column: Column, reference: Column) -> str:
    """PSNR in levels of a pixel's colour: 255 * 10^(-PSNR / 20) is the root mean square of their difference."""
    psnr = column.mean("psnr")
    if psnr is None:
        return ""
    if math.isinf(psnr):
        return f"The picture is that of {reference.title}, pixel for pixel."
    levels = 255 * 10 ** (-psnr / 20)
    return f"A pixel differs from {reference.title}'s by {levels:.2g} of 255 levels (root mean square)."
