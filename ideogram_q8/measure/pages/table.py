"""A report as tables: for a terminal, and the README's in Markdown."""

from __future__ import annotations

from collections.abc import Callable

from ideogram_q8.formats.metrics import TableColumn, in_table
from ideogram_q8.formats.quantities import megabytes
from ideogram_q8.formats.report import Measured, Report, VariantReport
from ideogram_q8.model.schemes import title

_Cell = Callable[[VariantReport], str]


def markdown(report: Report) -> str:
    """The README's table: a line a variant, with intervals; times only where nothing disturbed them. Ends with a newline."""
    reference = report.settings.reference
    shown = title(reference).split(" (")[0]
    measured = [(metric, _cell_of(metric.name, column)) for metric, column in in_table("report")]
    heads = {metric.name: column.head.format(reference=shown) for metric, column in in_table("report")}
    columns: list[tuple[str, _Cell]] = [
        ("variant", lambda v: title(v.name)),
        ("both transformers", lambda v: megabytes(v.size, ",.2f")),
        *((heads[metric.name], cell) for metric, cell in measured if metric.margin is not None),
        (f"reading, against {shown}", lambda v: said(report, v.name)),
    ]
    if report.disturbed is False:
        columns += [(heads[metric.name], cell) for metric, cell in measured if metric.margin is None]
    head = [f"| {' | '.join(name for name, _ in columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(cell(v) for _, cell in columns)} |" for v in report.variants)]) + "\n"


def conditions(report: Report) -> str:
    """A sentence to stand above `markdown`: what was painted and where, and what the brackets are."""
    settings = report.settings
    return (
        f"{report.suite.captions} captions ({report.suite.name}), preset {settings.preset}, {settings.width}x{settings.height}, "
        f"{settings.dtype} on {report.hardware.device}; in brackets {settings.intervals}."
    )


def _cell_of(name: str, column: TableColumn) -> _Cell:
    """A function from a variant to `45.2 (44.8 to 45.6)`, or a dash."""

    def cell(variant: VariantReport) -> str:
        figure = variant.figures.get(name)
        return column.text(figure.value, figure.interval or figure.quartiles) if isinstance(figure, Measured) else "–"

    return cell


def said(report: Report, name: str) -> str:
    """The verdict on words read exactly: equal by the equivalence test, better, worse, or not decided by these captions."""
    found = report.comparison(name, report.settings.reference, "ocr_exact_match")
    return "–" if found is None else found.verdict


def terminal(report: Report) -> str:
    """One line a variant, and a warning where the times mean little."""
    columns = [(column, _cell_of(metric.name, column), 22 if column.spread else 8) for metric, column in in_table("terminal")]
    lines = [" ".join([f"{'variant':16} {'MB':>9}", *(f"{column.head:>{width}}" for column, _, width in columns)])]
    for variant in report.variants:
        cells = (f"{cell(variant):>{width}}" for _, cell, width in columns)
        lines.append(" ".join([f"{variant.name:16} {variant.size / 1e6:9.2f}", *cells]))
    if report.disturbed is not False:
        lines.append("other programs ran, or may have run, while the variants were timed: the times rank nothing")
    return "\n".join(lines)
