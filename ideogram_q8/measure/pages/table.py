"""A report as tables: for a terminal, and the README's in Markdown."""

from __future__ import annotations

from collections.abc import Callable

from ideogram_q8.formats.quantities import megabytes, percent
from ideogram_q8.formats.report import Figure, Measured, NotMeasured, Report, VariantReport
from ideogram_q8.model.schemes import title

_Cell = Callable[[VariantReport], str]


def markdown(report: Report) -> str:
    """The README's table: a line a variant, with intervals; times only where nothing disturbed them. Ends with a newline."""
    reference = report.settings.reference
    shown = title(reference).split(" (")[0]
    columns: list[tuple[str, _Cell]] = [
        ("variant", lambda v: title(v.name)),
        ("both transformers", lambda v: megabytes(v.size, ",.2f")),
        (f"PSNR to {shown}, dB", lambda v: spread(v.figures["psnr"], 1)),
        (f"SSIM to {shown}", lambda v: spread(v.figures["ssim"], 4)),
        (f"LPIPS to {shown}, in thousandths", lambda v: spread(v.figures["lpips"], 3, 1000)),
        ("velocity SNR, dB", lambda v: spread(_figure(v, "velocity_snr"), 1)),
        ("words read exactly", lambda v: share(v.figures["ocr_exact_match"])),
        (f"reading, against {shown}", lambda v: said(report, v.name)),
    ]
    if report.disturbed is False:
        columns.append(("time per step", lambda v: milliseconds(v.figures["seconds_per_step"])))
    head = [f"| {' | '.join(name for name, _ in columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(cell(v) for _, cell in columns)} |" for v in report.variants)]) + "\n"


def conditions(report: Report) -> str:
    """A sentence to stand above `markdown`: what was painted and where, and what the brackets are."""
    settings = report.settings
    return (
        f"{report.suite.captions} captions ({report.suite.name}), preset {settings.preset}, {settings.width}x{settings.height}, "
        f"{settings.dtype} on {report.hardware.device}; in brackets {settings.intervals}."
    )


def spread(figure: Figure, digits: int, unit: float = 1) -> str:
    """`45.2 (44.8 to 45.6)`, or a dash; in `unit`ths."""
    if not isinstance(figure, Measured):
        return "–"
    span = figure.interval or figure.quartiles
    ends = "" if span is None else f" ({unit * span[0]:.{digits}f} to {unit * span[1]:.{digits}f})"
    return f"{unit * figure.value:.{digits}f}{ends}"


def share(figure: Figure) -> str:
    """`99.3 % (98.0 to 100.0)`, or a dash."""
    if not isinstance(figure, Measured):
        return "–"
    ends = "" if figure.interval is None else f" ({100 * figure.interval[0]:.1f} to {100 * figure.interval[1]:.1f})"
    return f"{percent(figure.value, '.1f')}{ends}"


def milliseconds(figure: Figure) -> str:
    """`92 ms`, or a dash."""
    return f"{1000 * figure.value:.0f} ms" if isinstance(figure, Measured) else "–"


def said(report: Report, name: str) -> str:
    """The verdict on words read exactly: equal by the equivalence test, better, worse, or not decided by these captions."""
    found = report.comparison(name, report.settings.reference, "ocr_exact_match")
    return "–" if found is None else found.verdict


def _figure(variant: VariantReport, name: str) -> Figure:
    return variant.figures.get(name, NotMeasured("not in this report"))


def terminal(report: Report) -> str:
    """One line a variant, and a warning where the times mean little."""
    lines = [
        f"{'variant':16} {'MB':>9} {'PSNR dB':>22} {'velocity SNR dB':>22} {'words read':>22} {'ms/step':>8} {'peak MB':>8}"
    ]
    for variant in report.variants:
        peak = variant.figures["peak_memory"]
        lines.append(
            f"{variant.name:16} {variant.size / 1e6:9.2f} {spread(variant.figures['psnr'], 1):>22} "
            f"{spread(_figure(variant, 'velocity_snr'), 1):>22} {share(variant.figures['ocr_exact_match']):>22} "
            f"{milliseconds(variant.figures['seconds_per_step']):>8} "
            f"{f'{peak.value / 1e6:.0f}' if isinstance(peak, Measured) else '–':>8}"
        )
    if report.disturbed is not False:
        lines.append("other programs ran, or may have run, while the variants were timed: the times rank nothing")
    return "\n".join(lines)
