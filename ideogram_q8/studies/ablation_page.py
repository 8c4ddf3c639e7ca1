"""An ablation as people read it: a Markdown page, and a chart for a card.

The chart is drawn with Pillow, which the package needs anyway; a plotting library would be a dependency for one picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from ideogram_q8.formats.quantities import megabytes
from ideogram_q8.formats.report import Measured
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, linears
from ideogram_q8.studies.ablation import PROTECTED, Ablation, Noise, Row

PUBLISHED: Mapping[str, str] = {
    "naive": "14.30",
    "smoothed": "16.56",
    "protected-17": "16.81",
    "paper-8": "16.01",
    "paper-17": "17.42, 17.54",
}
"""CLIP scores, n = 50, Ideogram 4.0 at 1024x1024 (arXiv 2606.12280, its ablation; two of its rows name the recipe `paper-17`)."""
_INK, _SOFT, _GRID = (24, 27, 33), (95, 101, 112), (223, 226, 231)
_COLOURS: Mapping[str, tuple[int, int, int]] = {"auto": (13, 116, 95), "convrot": (178, 92, 12), "paper": (37, 86, 181)}
"""By the first word of a row's name; the others are grey."""
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 1600, 56, 320, 380, 130, 110


# ---- Markdown ----


def markdown(ablation: Ablation) -> str:
    """The page: settings, one table of recipes, one by kind of Linear."""
    return "\n".join([*settings(ablation), "", *_recipes(ablation), "", *by_kind(ablation), "", *_notes(ablation)]) + "\n"


def settings(ablation: Ablation) -> list[str]:
    """The page's title, and how everything on it was measured."""
    suite = ablation.suite
    text = (
        f"{suite.captions} captions ({suite.name}), preset {ablation.preset}, {ablation.width}x{ablation.height}, {ablation.dtype} on "
        f"{ablation.device}; statistics from {ablation.calibration_captions} captions. In brackets: "
        f"{ablation.intervals}. Pictures are compared with the FP8 source's, same seeds."
    )
    return [f"# Ablation: {ablation.source.location}", "", text]


def _recipes(ablation: Ablation) -> list[str]:
    titles = [
        *("recipe", "MB", "kept exact", "output SNR: worst, dB", "median, dB", "of the mean error, dB"),
        *("PSNR to FP8, dB", "gain over naive, dB", "SSIM", "published CLIP¹"),
    ]
    table = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in ablation.rows:
        noise, published = row.noise, PUBLISHED.get(row.name, "–")
        cells = (
            row.name,
            f"{row.size / 1e6:.2f}",
            f"{noise.exact} of {noise.linears}",
            *(decibels(value) for value in (noise.worst, noise.median, noise.mean)),
            interval(row.psnr, 1),
            "–" if row is ablation.rows[0] else interval(row.gain, 2),
            interval(row.ssim, 4),
            published,
        )
        table.append(f"| {' | '.join(cells)} |")
    return table


def by_kind(ablation: Ablation) -> list[str]:
    """The table of output errors by kind of Linear."""
    kinds = list(ablation.rows[0].kinds)
    table = [
        "Output SNR by kind of Linear, worst / median in dB, both branches:",
        "",
        f"| recipe | {' | '.join(kinds)} |",
        f"|---{'|---' * len(kinds)}|",
    ]
    return table + [f"| {row.name} | {' | '.join(_pair(row.kinds[kind]) for kind in kinds)} |" for row in ablation.rows]


def _notes(ablation: Ablation) -> list[str]:
    published = (
        "¹ Another model and another metric, quoted for the order only: CLIP score of Ideogram 4.0 at 1024x1024, n = 50 "
        "(arXiv 2606.12280; 17.54 for its FP8 reference too). Its protection-only row names no N; 17 is assumed, and two rows name the "
        "recipe of the last figures."
    )
    noise = (
        "SNR: each Linear's output on the calibration's inputs against the source's own weights; worst and median are over Linears "
        "that are not exact, the mean error is over all. The `auto` recipes were chosen by this very error on these very inputs, so "
        "their SNR is in-sample and flatters them; PSNR and SSIM are of other captions."
    )
    return [published, *_shares(ablation), "", noise]


def _shares(ablation: Ablation) -> list[str]:
    """What the published counts are a share of, where the model has fewer Linears that can be protected."""
    shared = {linear.kind for linear in linears(IDEOGRAM4) if linear.sees_tokens}
    published = sum(linear.sees_tokens for linear in linears(IDEOGRAM4))
    count = sum(noise.linears for kind, noise in ablation.rows[0].kinds.items() if kind in shared) // len(BRANCHES)
    protects = [n for n in PROTECTED if n <= count]
    if count >= published or not protects:
        return []
    there, here = (" and ".join(f"{n} are {100 * n / total:.0f} %" for n in protects) for total in (published, count))
    same = " and ".join(str(max(1, round(n * count / published))) for n in protects)
    text = (
        "The published figures stand beside the rows that protect as many Linears, not beside those of the same share: of Ideogram 4's "
        f"{published} a branch that see tokens, {there}; of the {count} here, {here}. The same share would be {same}."
    )
    return ["", text]


def decibels(value: float | None) -> str:
    """`38.2`, or `exact`."""
    return "exact" if value is None else f"{value:.1f}"


def _pair(noise: Noise) -> str:
    return "exact" if noise.worst is None else f"{decibels(noise.worst)} / {decibels(noise.median)}"


def interval(figure: Measured, digits: int) -> str:
    """`41.1 (40.8 to 41.5)`."""
    text = f"{figure.value:.{digits}f}"
    return text if figure.interval is None else f"{text} ({figure.interval[0]:.{digits}f} to {figure.interval[1]:.{digits}f})"


# ---- chart ----


def chart(ablation: Ablation) -> Image.Image:
    """RGB, 1600 pixels wide: PSNR to the source with its interval, a row for each recipe."""
    rows = ablation.rows
    image = Image.new("RGB", (_WIDTH, _TOP + _ROW * len(rows) + _BOTTOM), "white")
    draw = ImageDraw.Draw(image)
    title, text, small = (ImageFont.load_default(size) for size in (34, 26, 22))
    draw.text((40, 28), "Distance to the FP8 pictures: PSNR in dB, 95 % interval", _INK, title)
    draw.text((40, 76), f"{ablation.source.location}, {ablation.suite.captions} captions, {ablation.preset}", _SOFT, small)
    scale = _Scale([row.psnr for row in rows])
    bottom = _TOP + _ROW * len(rows)
    for tick in scale.ticks:
        draw.line([(scale.x(tick), _TOP), (scale.x(tick), bottom)], _GRID, 2)
        draw.text((scale.x(tick), bottom + 12), f"{tick:g}", _SOFT, small, anchor="ma")
    for index, row in enumerate(rows):
        _draw_row(draw, row, scale, _TOP + _ROW * index + _ROW // 2, text, small)
    draw.text(
        (_WIDTH - 40, bottom + 60),
        "more is closer to FP8; MB are both transformers; SNR is of the mean error",
        _SOFT,
        small,
        "ra",
    )
    return image


class _Scale:
    """PSNR -> pixels, with round ticks."""

    def __init__(self, figures: Sequence[Measured]) -> None:
        ends = [end for figure in figures for end in (figure.interval or (figure.value, figure.value))]
        span = max(max(ends) - min(ends), 1.0)
        step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if span / step <= 8 or step == 100)
        first, last = int(min(ends) // step), int(-(-max(ends) // step))
        self.ticks = [step * i for i in range(first, max(last, first + 1) + 1)]

    def x(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _draw_row(draw: ImageDraw.ImageDraw, row: Row, scale: _Scale, y: int, text: _Font, small: _Font) -> None:
    colour = _COLOURS.get(row.name.split("-")[0], _SOFT)
    low, high = row.psnr.interval or (row.psnr.value, row.psnr.value)
    draw.text((_LEFT - 30, y), row.name, _INK, text, anchor="rm")
    draw.line([(scale.x(low), y), (scale.x(high), y)], colour, 5)
    for end in (low, high):
        draw.line([(scale.x(end), y - 9), (scale.x(end), y + 9)], colour, 5)
    x = scale.x(row.psnr.value)
    draw.ellipse([(x - 10, y - 10), (x + 10, y + 10)], colour)
    mean = "exact" if row.noise.mean is None else f"{row.noise.mean:.1f} dB SNR"
    figures = f"{row.psnr.value:.1f}   {megabytes(row.size, ',.2f')}   {mean}"
    draw.text((_WIDTH - _RIGHT + 24, y), figures, _INK, small, anchor="lm")
