"""The HTML of the Machine tab, as pure functions. Everything that is not written here is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ideogram_q8.formats.quantities import byte_size
from ideogram_q8.ui.engine.events import Picture
from ideogram_q8.ui.parts.fragments import panel

if TYPE_CHECKING:
    from ideogram_q8.ui.engine.machine import Gauge, Kernel


def facts(rows: Mapping[str, str]) -> str:
    """The machine, a row for each fact."""
    return _panel("This machine", _table([(name, value) for name, value in rows.items()]))


def memory(gauges: Sequence[Gauge], last: Picture | None) -> str:
    """Bars of what is in use, and the peaks of the last picture by stage."""
    bars = "".join(
        f'<div class="q8-gauge"><span>{html.escape(each.name)}</span>'
        f"<span>{byte_size(each.used)} of {byte_size(each.total)}</span></div>"
        f'<div class="q8-bar" role="meter" aria-label="{html.escape(each.name)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{_percent(each)}"><i style="width:{_percent(each)}%"></i></div>'
        for each in gauges
    )
    return _panel("Memory now", bars) + _stages(last)


def _percent(gauge: Gauge) -> int:
    return round(100 * gauge.used / gauge.total) if gauge.total else 0


def _stages(last: Picture | None) -> str:
    if last is None:
        return panel("idle", "No picture yet", notes=["The peaks of each stage appear here after the first picture."])
    size = f"{last.request.width} × {last.request.height} px"
    rows = [(name, byte_size(value)) for name, value in last.stages.items()]
    return _panel(f"Peaks of the last picture, {last.variant}, {size}", _table(rows))


def kernels(found: Sequence[Kernel]) -> str:
    """What computes, and why not what would be preferred."""
    rows = []
    for kernel in found:
        refused = "".join(f"<li>{html.escape(name)}: {html.escape(reason)}</li>" for name, reason in kernel.refused)
        reasons = f'<ul class="q8-list">{refused}</ul>' if refused else ""
        rows.append(f"<dt>{html.escape(kernel.what)}</dt><dd>{html.escape(kernel.runs)}{reasons}</dd>")
    return _panel("What computes here, and why not what comes first", f'<dl class="q8-kernels">{"".join(rows)}</dl>')


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="q8-table q8-facts">{cells}</table>'


def _panel(head: str, body: str) -> str:
    return f'<div class="q8-panel" data-state="done"><h2 class="q8-head">{html.escape(head)}</h2>{body}</div>'
