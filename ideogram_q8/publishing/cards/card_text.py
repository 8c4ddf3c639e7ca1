"""How numbers and texts read on a card. Pure."""

from __future__ import annotations

from ideogram_q8.formats.quantities import byte_text
from ideogram_q8.formats.report import Figure, Measured
from ideogram_q8.publishing.cards.escaping import Markdown, text


def figure_text(figure: Figure) -> Markdown:
    """'45.20 dB (44.80 to 45.60, n = 64)', '0.051 s (quartiles 0.05 to 0.052, n = 640)' or 'not measured (why)'."""
    if not isinstance(figure, Measured):
        return Markdown(f"not measured ({text(figure.not_measured)})")
    interval = f"{span(figure.interval, figure.unit)}, " if figure.interval else ""
    quartiles = f"quartiles {span(figure.quartiles, figure.unit)}, " if figure.quartiles else ""
    return Markdown(f"{with_unit(figure.value, text(figure.unit))} ({interval}{quartiles}n = {figure.n:,})")


def short_text(figure: Figure | None) -> str:
    """For a table of many variants: '45.20 (44.80 to 45.60)', or a dash."""
    if not isinstance(figure, Measured):
        return "–"
    ends = figure.interval or figure.quartiles
    return number(figure.value, figure.unit) + (f" ({span(ends, figure.unit)})" if ends else "")


def with_unit(value: float, unit: str) -> str:
    """'45.20 dB', '0.9951', '1.20 GB'."""
    return f"{number(value, unit)}{'' if unit in ('1', 'bytes') else f' {unit}'}"


def span(interval: tuple[float, float], unit: str) -> str:
    """'44.80 to 45.60'."""
    return f"{number(interval[0], unit)} to {number(interval[1], unit)}"


def number(value: float, unit: str) -> str:
    """With the digits that count for its unit."""
    if unit == "bytes":
        return byte_text(value)
    if unit == "1":
        return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.6f}"
    return f"{value:.2f}" if unit == "dB" else f"{value:.3g}"
