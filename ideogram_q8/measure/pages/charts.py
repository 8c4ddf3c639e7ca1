"""Charts of a report as SVG. Text and axes take the colour of the page's text, so that they can be read on light and on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.report import Measured, Report, VariantReport
from ideogram_q8.measure.statistics import measured
from ideogram_q8.model.schemes import title

_INK = "#010203"
"""Stands for the page's text colour until the SVG is finished."""
_COLOURS = ("#8a8f98", "#d1495b", "#e08e1b", "#2a9d5c", "#3a86d9", "#9b5de5", "#00a6a6", "#c96bb2", "#a0742f", "#6b8e23")
"""Readable on white and on black; the first is the reference's."""
_LEGEND_COLUMNS = 3
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
}


def charts(report: Report) -> dict[str, str]:
    """SVG elements by title; only those that the report has figures for."""
    drawn = {
        "Quality against size": _against(report, _sizes(report), "both transformers, MB"),
        "Quality against speed": _against(report, _speeds(report), "time per step, s (median and quartiles)"),
        "Words read exactly, by category": _categories(report),
        "Velocity, step by step": _steps(report, "velocity_snr", "signal to noise, dB"),
        "Latents, step by step": _steps(report, "latent_mse", "mean squared error"),
    }
    return {name: svg for name, svg in drawn.items() if svg}


def colour(report: Report, name: str) -> str:
    """A variant's, the same in all charts."""
    return _COLOURS[[variant.name for variant in report.variants].index(name) % len(_COLOURS)]


# ---- quality against cost ----


def _sizes(report: Report) -> dict[str, tuple[float, float, float]]:
    return {v.name: (v.size / 1e6,) * 3 for v in report.variants}


def _speeds(report: Report) -> dict[str, tuple[float, float, float]]:
    found = {v.name: v.figures["seconds_per_step"] for v in report.variants}
    return {n: (f.value, *(f.quartiles or (f.value, f.value))) for n, f in found.items() if isinstance(f, Measured)}


def _against(report: Report, costs: Mapping[str, tuple[float, float, float]], label: str) -> str:
    """PSNR with its interval over a cost (value, low, high); the reference's cost is a line, for it has no PSNR."""
    shown = [(v, f) for v in report.variants if v.name in costs and isinstance(f := v.figures["psnr"], Measured)]
    if not shown:
        return ""
    with mpl.rc_context(_STYLE):
        drawing, axes = _new(8.4, 4.8)
        for variant, figure in shown:
            cost, low, high = costs[variant.name]
            axes.errorbar(
                cost,
                figure.value,
                xerr=[[cost - low], [high - cost]],
                yerr=_error(figure),
                fmt="o",
                color=colour(report, variant.name),
                capsize=3,
                label=title(variant.name),
            )
        reference = report.settings.reference
        if reference in costs:
            axes.axvline(costs[reference][0], color=colour(report, reference), linestyle="--", label=title(reference))
        axes.set_xlabel(label)
        axes.set_ylabel("PSNR to the reference, dB (95 % interval)")
        return _finish(drawing, axes, label)


def _error(figure: Measured) -> list[list[float]]:
    low, high = figure.interval or (figure.value, figure.value)
    return [[max(0.0, figure.value - low)], [max(0.0, high - figure.value)]]


# ---- categories ----


def _categories(report: Report) -> str:
    """A row a category, a dot a variant, with the interval over the category's captions."""
    metric = "ocr_exact_match"
    shown = [variant for variant in report.variants if metric in variant.values]
    names = [name for name in dict.fromkeys(case.category for case in report.cases) if _of(shown, report, metric, name)]
    if not names:
        return ""
    with mpl.rc_context(_STYLE):
        drawing, axes = _new(8.4, 1.4 + 0.16 * len(names) * (len(shown) + 1))
        for i, variant in enumerate(shown):
            offset = 0.7 * ((i + 0.5) / len(shown) - 0.5)
            for row, name in enumerate(names):
                found = measured(_of([variant], report, metric, name), "1", METRICS[metric].largest)
                label = title(variant.name) if row == 0 else None
                mark: dict[str, Any] = {"fmt": "o", "ms": 4, "color": colour(report, variant.name), "label": label}
                axes.errorbar(found.value, row + offset, xerr=_error(found), **mark)
        axes.set_yticks(range(len(names)), [f"{name} ({len(_of(shown[:1], report, metric, name))})" for name in names])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        return _finish(drawing, axes, "categories")


def _of(variants: Sequence[VariantReport], report: Report, metric: str, category: str) -> list[float]:
    """All values of these variants for captions of a category."""
    rows = [zip(report.cases, variant.values[metric], strict=True) for variant in variants]
    return [value for row in rows for case, value in row if case.category == category and value is not None]


# ---- steps ----


def _steps(report: Report, field: str, label: str) -> str:
    shown = [variant for variant in report.variants if variant.steps]
    if not shown:
        return ""
    with mpl.rc_context(_STYLE):
        drawing, axes = _new(8.4, 4.0)
        for variant in shown:
            numbers = range(1, len(variant.steps) + 1)
            values = [getattr(step, field) for step in variant.steps]
            axes.plot(numbers, values, color=colour(report, variant.name), label=title(variant.name), lw=1.6)
            if field == "velocity_snr":
                low, high = zip(*(step.interval for step in variant.steps), strict=True)
                axes.fill_between(numbers, low, high, color=colour(report, variant.name), alpha=0.2, lw=0)
        if field == "latent_mse":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        return _finish(drawing, axes, field)


# ---- drawing ----


def _new(width: float, height: float) -> tuple[Drawing, Axes]:
    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, drawing.add_subplot()


def _finish(drawing: Drawing, axes: Axes, name: str) -> str:
    """The SVG element; `name` keeps its ids apart from those of other charts on the page."""
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(
        handles, labels, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=9, columnspacing=1.2, handlelength=1.4
    )
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return re.sub(r'(<svg [^>]*?)width="[^"]*" ', r"\1", re.sub(r' height="[\d.]+pt"', "", text, count=1), count=1)
