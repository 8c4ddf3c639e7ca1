"""What a card says of a report: the verdict, the build beside the reference, all builds in a row. Pure.

"Equal" is said where the report's equivalence test says it, and nowhere else; a small difference alone is "undecided".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.metrics import METRICS, Metric, TableColumn, in_table
from ideogram_q8.formats.quantities import byte_text
from ideogram_q8.formats.report import Comparison, Figure, Hardware, Measured, NotMeasured, Report, VariantReport
from ideogram_q8.model.schemes import INT8, title
from ideogram_q8.publishing.cards.card_text import figure_text, short_text, span, with_unit
from ideogram_q8.publishing.cards.card_weights import bits_text, weights_in
from ideogram_q8.publishing.cards.escaping import Markdown, text

READING = "ocr_exact_match"
_FOUND = {
    "equal": "Words in its pictures are read **as well as** in those of {0}, equal within {1} points by the equivalence test",
    "better": "Words in its pictures are read **better than** in those of {0}",
    "worse": "Words in its pictures are read **worse than** in those of {0}",
    "undecided": "Whether words in its pictures are read as well as in those of {0} is **undecided**",
}


class VariantRow(NamedTuple):
    """A line of the table of builds, all measured in one run."""

    title: str
    link: str
    is_this: bool
    bits_per_weight: str
    size: float
    measured: tuple[str, ...]
    verdict: str
    costs: tuple[str, ...]


class MetricRow(NamedTuple):
    """A line of the table of this build beside the reference."""

    title: str
    reference: str
    this: str
    difference: str
    verdict: str


def verdict(manifest: Manifest, report: Report | None, measured: VariantReport | None) -> Markdown:
    """One line: reading against the reference where it was tested, and how far the pictures are from the reference's."""
    psnr = measured.figures.get("psnr") if measured else None
    if report is None or measured is None or not isinstance(psnr, Measured):
        reason = f": {text(psnr.not_measured)}" if isinstance(psnr, NotMeasured) else ""
        return Markdown(f"How close this build comes to its source has **not been measured**{reason}.")
    settings = report.settings
    ratio = size_ratio(manifest, report)
    size = f" On disk it is {ratio:.2f} times the size." if ratio else ""
    reference = text(title(settings.reference))
    interval = f" (95 % interval {span(psnr.interval, 'dB')})" if psnr.interval else " (no interval computed)"
    return Markdown(
        f"{_reading(report, measured)}PSNR **{psnr.value:.2f} dB**{interval} to the pictures of {reference} for the same "
        f"captions and seeds: {psnr.n:,} pictures, preset {text(settings.preset)}, {settings.width}x{settings.height}.{size}"
    )


def size_ratio(manifest: Manifest, report: Report) -> float | None:
    """The build's size over the reference's, where that is known."""
    reference = report.variant(report.settings.reference)
    return sum(file.size for file in manifest.files) / reference.size if reference and reference.size else None


def _reading(report: Report, measured: VariantReport) -> str:
    """The sentence on reading, with a space after it; empty where it was not compared."""
    found = report.comparison(measured.name, report.settings.reference, READING)
    if found is None:
        return ""
    low, high = found.bca
    said = _FOUND[found.verdict].format(text(title(report.settings.reference)), f"{100 * found.margin:g}")
    return (
        f"{said}: {100 * found.difference:+.1f} points (95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}, {found.n:,} captions). "
    )


def variant_rows(report: Report, manifest: Manifest, siblings: Sequence[str]) -> list[VariantRow]:
    """All variants in the report's order; `siblings` are the repositories that some of them are in."""
    weights = weights_in(manifest, manifest.files)
    links = {variant.name: _link(variant.name, siblings) for variant in report.variants}
    return [
        VariantRow(
            title=title(variant.name),
            link=links[variant.name],
            is_this=variant.name == manifest.variant,
            bits_per_weight=bits_text(variant.size, weights),
            size=variant.size,
            measured=tuple(_cell(variant, metric, column) for metric, column in _columns(report, costs=False)),
            verdict=_reading_said(report.comparison(variant.name, report.settings.reference, READING)),
            costs=tuple(_cell(variant, metric, column) for metric, column in _columns(report, costs=True)),
        )
        for variant in report.variants
    ]


def variant_heads(report: Report) -> tuple[list[Markdown], list[Markdown]]:
    """The titles of `measured` and `costs` of `variant_rows`."""
    words = {
        "reference": text(title(report.settings.reference)),
        "machine": text(measured_on(report.hardware)),
        "of_gpu": " of the GPU" if report.hardware.accelerator else "",
    }
    quality, costs = (
        [Markdown(column.head.format(**words)) for _, column in _columns(report, costs=each)] for each in (False, True)
    )
    return quality, costs


def _columns(report: Report, *, costs: bool) -> list[tuple[Metric, TableColumn]]:
    """What stands in the table of builds: what captions have one by one, or what it costs; of times the one that was taken."""
    other = {"picture": "seconds_per_step", "step": "seconds_per_picture"}[timed(report)]
    return [(m, column) for m, column in in_table("card") if (m.margin is None) == costs and m.name != other]


def _cell(variant: VariantReport, metric: Metric, column: TableColumn) -> str:
    figure = variant.figures.get(metric.name)
    if column.digits is None or not isinstance(figure, Measured):
        return short_text(figure)
    return column.text(figure.value, figure.interval)


def picks(report: Report) -> list[Markdown]:
    """Which builds stand out by figures of the report: the closest, the closest that computes in int8, the smallest."""
    psnr = {v.name: figure.value for v in report.variants if isinstance(figure := v.figures.get("psnr"), Measured)}
    builds = sorted((v for v in report.variants if v.name in psnr), key=lambda v: -psnr[v.name])
    if len(builds) < 2:
        return []
    smallest = min(v.size for v in builds)
    by_trait = {
        "Closest by PSNR": builds[:1],
        "Closest of those that compute in int8, as an RTX 3090's tensor cores can": [
            v for v in builds if v.name.startswith(INT8)
        ][:1],
        "Smallest": [v for v in builds if v.size <= 1.01 * smallest],
    }
    return [
        Markdown(
            f"**{trait}:** {' and '.join(f'{text(title(v.name))} ({byte_text(v.size)}, {psnr[v.name]:.2f} dB)' for v in found)}"
        )
        for trait, found in by_trait.items()
        if found
    ]


def timed(report: Report) -> str:
    """What times are of: a `picture`, or a `step` where pictures were not timed."""
    found = (variant.figures.get("seconds_per_picture") for variant in report.variants)
    return "picture" if any(isinstance(figure, Measured) for figure in found) else "step"


def _link(variant: str, siblings: Sequence[str]) -> str:
    return next((sibling for sibling in siblings if sibling.lower().endswith(f"-{variant}")), "")


def _reading_said(found: Comparison | None) -> str:
    return f"equal within {100 * found.margin:g} points" if found and found.verdict == "equal" else _said(found)


def metric_rows(report: Report, measured: VariantReport) -> list[MetricRow]:
    """All metrics that the build or the reference has, in the order of METRICS."""
    reference = report.variant(report.settings.reference) or measured
    rows = []
    for name, metric in METRICS.items():
        mine, theirs = measured.figures.get(name), reference.figures.get(name)
        if not (isinstance(mine, Measured) or isinstance(theirs, Measured)):
            continue
        found = report.comparison(measured.name, reference.name, name)
        first, second = (_own(metric, figure) for figure in (theirs, mine))
        rows.append(MetricRow(metric.title, first, second, _difference(found, metric.unit), _said(found)))
    return rows


def _own(metric: Metric, figure: Figure | None) -> str:
    if metric.fidelity and not isinstance(figure, Measured):
        return "the reference itself"
    return figure_text(figure or NotMeasured("not in the report"))


def _difference(found: Comparison | None, unit: str) -> str:
    if found is None:
        return "–"
    sign = "+" if found.difference > 0 else ""
    return f"{sign}{with_unit(found.difference, unit)} ({span(found.bca, unit)})"


def _said(found: Comparison | None) -> str:
    if found is None:
        return "–"
    unit = METRICS[found.metric].unit
    margin = f"{found.margin:g}{'' if unit == '1' else f' {unit}'}"
    return f"equal within {margin}" if found.verdict == "equal" else found.verdict


def unmeasured(report: Report, measured: VariantReport) -> list[tuple[str, str]]:
    """Metrics that neither the build nor the reference has, by their reason."""
    reference = report.variant(report.settings.reference) or measured
    by_reason: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        mine = measured.figures.get(name)
        if isinstance(mine, NotMeasured) and not isinstance(reference.figures.get(name), Measured):
            by_reason.setdefault(mine.not_measured, []).append(metric.title)
    return [("; ".join(titles), reason) for reason, titles in by_reason.items()]


def measured_on(hardware: Hardware) -> str:
    """What times and memory are of: the graphics card, or the CPU."""
    return hardware.accelerator or f"{hardware.threads} CPU thread{'' if hardware.threads == 1 else 's'}"


def seeds_text(seeds: Sequence[int]) -> str:
    """All of a few; of many, that each caption has its own."""
    if len(seeds) > 4:
        return "a seed of its own for every caption"
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
