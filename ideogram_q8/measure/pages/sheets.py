"""Contact sheets: a variant's worst, median and best pictures beside the reference's, and what differs.

Worst and best are by PSNR. The sheet has its own dark ground, so that it looks the same on any page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image, ImageChops, ImageDraw

from ideogram_q8.measure.compare import ComparedVariant, Whole
from ideogram_q8.measure.measurement import open_picture
from ideogram_q8.measure.words.lettering import font

EACH = 4
"""Pictures of each kind."""
KINDS = ("worst", "median", "best")
AMPLIFIED = 8
_CELL, _GAP, _LINE = 192, 12, 22
_GROUND, _INK, _SOFT = (24, 27, 33), (236, 238, 241), (160, 166, 176)
_COLUMNS = ("reference", "this variant", f"difference ×{AMPLIFIED}")


def contact_sheets(whole: Whole) -> dict[str, bytes]:
    """A WebP picture of each variant but the reference, by its name."""
    first, *others = whole.variants
    return {variant.share.name: _encoded(sheet(first, variant)) for variant in others}


def chosen(variant: ComparedVariant) -> Mapping[str, list[int]]:
    """Places in the suite of what is shown, by kind; the worst first, none twice."""
    psnr = variant.values("psnr")
    order = sorted(range(len(psnr)), key=lambda i: psnr[i] or 0.0)
    each = min(EACH, len(order) // len(KINDS)) or 1
    middle = max(0, (len(order) - each) // 2)
    return dict(zip(KINDS, (order[:each], order[middle : middle + each], order[-each:][::-1]), strict=True))


def sheet(reference: ComparedVariant, variant: ComparedVariant) -> Image.Image:
    """A column of pairs for each kind."""
    picked = chosen(variant)
    rows = max(len(places) for places in picked.values())
    block = len(_COLUMNS) * (_CELL + _GAP)
    canvas = Image.new("RGB", (_GAP + len(KINDS) * (block + _GAP), 2 * _LINE + rows * (_CELL + _LINE + _GAP) + _GAP), _GROUND)
    draw, letters = ImageDraw.Draw(canvas), font(14)
    for column, (kind, places) in enumerate(picked.items()):
        left = _GAP + column * (block + _GAP)
        for i, title in enumerate(_COLUMNS):
            draw.text((left + i * (_CELL + _GAP), _GAP), f"{kind}: {title}" if i == 0 else title, _INK, letters)
        for row, place in enumerate(places):
            top = 2 * _LINE + row * (_CELL + _LINE + _GAP)
            for i, picture in enumerate(_row(reference, variant, place)):
                canvas.paste(picture, (left + i * (_CELL + _GAP), top))
            draw.text((left, top + _CELL + 2), _label(variant, place), _SOFT, letters)
    return canvas


def _row(reference: ComparedVariant, variant: ComparedVariant, place: int) -> list[Image.Image]:
    pair = [open_picture(v.folders[place] / v.pictures[place].picture) for v in (reference, variant)]
    difference = ImageChops.difference(*pair).point([min(255, AMPLIFIED * value) for value in range(256)] * 3)
    return [_fitted(picture) for picture in (*pair, difference)]


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = Image.new("RGB", (_CELL, _CELL), _GROUND)
    shown.paste(picture.resize(size, Image.Resampling.LANCZOS), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return shown


def _label(variant: ComparedVariant, place: int) -> str:
    psnr, case = variant.values("psnr")[place], variant.share.run.cases[place]
    return f"{case.id}   {psnr:.1f} dB" if psnr is not None else case.id


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=88, method=4)
    return buffer.getvalue()
