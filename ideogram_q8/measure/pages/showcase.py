"""What a card shows of a finished run: pictures of each variant, all variants side by side, and charts for light and dark pages.

Captions are chosen by rule, not by taste: of those that ask for a text in a place, the one where the variants are furthest from the
reference on average (by PSNR), the one where they are nearest, and those evenly between. The text is shown at its own pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from ideogram_q8.formats.report import Report, Sample
from ideogram_q8.measure.compare import ComparedVariant, Whole
from ideogram_q8.measure.measurement import open_picture
from ideogram_q8.measure.pages.charts import charts
from ideogram_q8.measure.words.lettering import font
from ideogram_q8.model.schemes import title

SHOWN = 3
"""Captions."""
ABOUT = (
    "Captions were chosen by rule: of those that ask for a text in a place, the one where all variants together are furthest from the "
    "reference by PSNR, the one where they are nearest, and the one between."
)
_THUMB, _CROP, _GAP, _LINE, _LABEL = 128, (256, 128), 8, 20, 210
_GROUND, _INK, _SOFT = (24, 27, 33), (236, 238, 241), (160, 166, 176)
_PAGES: Mapping[Literal["light", "dark"], tuple[str, str]] = {"light": ("#1f2328", "#ffffff"), "dark": ("#e6edf3", "#0d1117")}
"""Ink and ground of a chart: its own ground, so that it can be read on any page."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Showcase:
    """Files by their paths beside the report, which samples each variant has, and (title, theme) of the pictures in images/."""

    samples: Mapping[str, tuple[Sample, ...]]
    files: Mapping[str, bytes]
    titles: Mapping[str, tuple[str, Literal["any", "light", "dark"]]]


def showcase(whole: Whole, report: Report) -> Showcase:
    """Makes the showcase of a run and its report, from the pictures that are shown."""
    places = chosen(whole)
    samples: dict[str, tuple[Sample, ...]] = {}
    files: dict[str, bytes] = {}
    for variant in whole.variants:
        name = variant.share.name
        pictures = {place: _file(variant, place).read_bytes() for place in places}
        paths = {place: f"samples/{name}/{whole.run.cases[place].id.replace('/', '--')}.png" for place in places}
        samples[name] = tuple(_sample(variant, place, paths[place], data) for place, data in pictures.items())
        files |= {paths[place]: data for place, data in pictures.items()}
    drawn = {
        "images/comparison.webp": ("The same captions and seeds, painted by every variant", "any", comparison(whole, places))
    }
    for name, svg in _charts(report).items():
        for theme, (ink, ground) in _PAGES.items():
            drawn[f"images/{_slug(name)}-{theme}.svg"] = (name, theme, coloured(svg, ink, ground).encode())
    titles: Any = {path: (name, theme) for path, (name, theme, _) in drawn.items()}
    return Showcase(samples, files | {path: data for path, (*_, data) in drawn.items()}, titles)


# ---- captions ----


def chosen(whole: Whole) -> list[int]:
    """Places in the suite, the worst first; of all captions where none asks for a text in a place."""
    psnr = np.array([[value or 0.0 for value in variant.values("psnr")] for variant in whole.variants[1:]])
    mean = psnr.mean(axis=0) if len(psnr) else np.zeros(len(whole.run.cases))
    with_text = [i for i in range(len(mean)) if text_box(_caption(whole.variants[0], i)) is not None]
    order = sorted(with_text or range(len(mean)), key=lambda i: (float(mean[i]), i))
    picked = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return [order[i] for i in picked]


def text_box(caption: str) -> Box | None:
    """Box of the first text that has one, (ymin, xmin, ymax, xmax) in thousandths. The caption is one that a picture was painted of."""
    found = json.loads(caption).get("compositional_deconstruction", {}).get("elements", [])
    boxes = [element["bbox"] for element in found if element.get("type") == "text" and element.get("bbox")]
    return tuple(boxes[0]) if boxes else None


def _caption(variant: ComparedVariant, place: int) -> str:
    return variant.pictures[place].painted.request.caption


def _words(caption: str) -> str:
    found = json.loads(caption).get("compositional_deconstruction", {}).get("elements", [])
    return " ".join(str(element["text"]) for element in found if element.get("type") == "text")


def _file(variant: ComparedVariant, place: int) -> Path:
    return variant.folders[place] / variant.pictures[place].picture


def _sample(variant: ComparedVariant, place: int, path: str, data: bytes) -> Sample:
    request = variant.pictures[place].painted.request
    return Sample(path, hashlib.sha256(data).hexdigest(), request.caption, request.seed)


# ---- side by side ----


def comparison(whole: Whole, places: Sequence[int]) -> bytes:
    """A row for each variant: of every caption the picture, made to fit, and its text pixel by pixel. WebP without loss."""
    column, row = _THUMB + _CROP[0] + 2 * _GAP, _THUMB + _GAP
    top = 2 * _LINE + _GAP
    canvas = Image.new("RGB", (_LABEL + len(places) * column, top + len(whole.variants) * row), _GROUND)
    draw, letters, small = ImageDraw.Draw(canvas), font(15), font(12)
    for i, place in enumerate(places):
        left = _LABEL + i * column
        request, case = whole.variants[0].pictures[place].painted.request, whole.run.cases[place]
        draw.text((left, _GAP), _words(request.caption)[:40], _INK, letters)
        draw.text((left, _GAP + _LINE), f"{case.id}, seed {request.seed}", _SOFT, small)
    for y, variant in enumerate(whole.variants):
        draw.multiline_text((_GAP, top + y * row + _GAP), "\n".join(title(variant.share.name).split(", ")), _INK, letters)
        for i, place in enumerate(places):
            picture = open_picture(_file(variant, place))
            left = _LABEL + i * column
            canvas.paste(_fitted(picture), (left, top + y * row))
            canvas.paste(crop(picture, text_box(_caption(variant, place))), (left + _THUMB + _GAP, top + y * row))
    buffer = io.BytesIO()
    canvas.save(buffer, "WEBP", lossless=True, quality=50, method=3)
    return buffer.getvalue()


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _THUMB / max(picture.size)
    shown = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.LANCZOS
    )
    cell = Image.new("RGB", (_THUMB, _THUMB), _GROUND)
    cell.paste(shown, ((_THUMB - shown.width) // 2, (_THUMB - shown.height) // 2))
    return cell


def crop(picture: Image.Image, box: Box | None) -> Image.Image:
    """What lies around the middle of a box: 1:1, and of pictures smaller than the window each pixel as a square of several."""
    zoom = max(1, _CROP[0] // picture.width)
    width, height = min(picture.width, _CROP[0] // zoom), min(picture.height, _CROP[1] // zoom)
    y, x = (500, 500) if box is None else ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    left = round(min(max(0, x * picture.width / 1000 - width / 2), picture.width - width))
    top = round(min(max(0, y * picture.height / 1000 - height / 2), picture.height - height))
    shown = picture.crop((left, top, left + width, top + height))
    return shown.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)


# ---- charts ----


def _charts(report: Report) -> dict[str, str]:
    """Without speed where other programs ran beside the measurement: it would rank what the times do not."""
    return {name: svg for name, svg in charts(report).items() if "speed" not in name or report.disturbed is False}


def coloured(svg: str, ink: str, ground: str) -> str:
    """A chart that stands alone: `currentColor` made a colour, on a ground of its own."""
    start = svg.index(">", svg.index("<svg")) + 1
    return f'{svg[:start]}<rect width="100%" height="100%" fill="{ground}"/>{svg[start:].replace("currentColor", ink)}\n'


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
