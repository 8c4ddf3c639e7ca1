"""A report as one HTML file that needs no other and runs no script."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from pathlib import Path

import jinja2

from ideogram_q8.formats.metrics import METRICS, Metric
from ideogram_q8.formats.report import Comparison, Figure, Measured, NotMeasured, Report
from ideogram_q8.measure.pages.charts import charts
from ideogram_q8.model.schemes import title

TEMPLATE = Path(__file__).with_name("page.html.j2")


def page(report: Report, sheets: Mapping[str, bytes]) -> str:
    """The page; `sheets` are WebP pictures by the variant's name."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        charts=charts(report),
        rows=[(metric, [_cell(v.figures[metric.name], metric) for v in report.variants]) for metric in _metrics(report)],
        reasons=_reasons(report),
        pairs=_pairs(report),
        sheets={name: base64.b64encode(content).decode("ascii") for name, content in sheets.items()},
        title=title,
        number=_number,
        span=lambda ends: f"{_number(ends[0])} to {_number(ends[1])}",
    )


def _metrics(report: Report) -> list[Metric]:
    """Metrics that at least one variant has."""
    return [m for m in METRICS.values() if any(isinstance(v.figures.get(m.name), Measured) for v in report.variants)]


def _reasons(report: Report) -> list[tuple[str, str]]:
    """Metrics that no variant has, and why."""
    last = report.variants[-1].figures
    shown = {metric.name for metric in _metrics(report)}
    return [(METRICS[n].title, f.not_measured) for n, f in last.items() if n not in shown and isinstance(f, NotMeasured)]


def _pairs(report: Report) -> list[tuple[tuple[str, str], list[Comparison]]]:
    grouped = itertools.groupby(report.comparisons, key=lambda c: (c.candidate, c.baseline))
    return [(pair, list(found)) for pair, found in grouped]


def _cell(figure: Figure, metric: Metric) -> tuple[str, str]:
    """Text, and the reason why there is no figure."""
    if isinstance(figure, NotMeasured):
        return "–", figure.not_measured
    factor = 1e-6 if metric.unit == "bytes" else 1.0
    span = figure.interval or figure.quartiles
    ends = "" if span is None else f" ({_number(span[0] * factor)} to {_number(span[1] * factor)})"
    return f"{_number(figure.value * factor)}{' MB' if metric.unit == 'bytes' else ''}{ends}", ""


def _number(value: float) -> str:
    """Four digits that count, no more."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
