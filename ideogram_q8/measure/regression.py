"""Is a new report worse than an old one, beyond noise and by enough to matter? Variants and metrics that both have.

- What captions have one by one is compared caption by caption: worse is a regression if the corrected test finds it (see `statistics`)
  and the mean is worse by the smallest difference of interest.
- Times are compared on the same hardware only, and only where neither report was disturbed by other programs: a regression is 10 % more,
  with the new median above the old upper quartile. Bytes of files and peak memory do not scatter much: 2 % and 5 % more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.quantities import megabytes
from ideogram_q8.formats.report import Measured, Report, VariantReport
from ideogram_q8.measure.statistics import ALPHA, compare

SLOWER, LARGER, HUNGRIER = 1.10, 1.02, 1.05
TIMES = ("seconds_per_step", "seconds_per_picture")


@dataclass(frozen=True)
class Regression:
    """A change for the worse or the better; `regression` is what fails a check."""

    variant: str
    metric: str
    text: str
    regression: bool


def changes(old: Report, new: Report) -> list[Regression]:
    """All that can be told of two reports.

    Raises:
        RequestError: they are of different captions, seeds or settings, or share no variant.
    """
    for name, ours, theirs in (
        ("suites", old.suite, new.suite),
        ("settings", old.settings, new.settings),
        ("captions", old.cases, new.cases),
    ):
        if ours != theirs:
            raise RequestError(f"the reports have different {name}; compare runs of one suite with one preset, size and type")
    pairs = [(before, after) for before in old.variants if (after := new.variant(before.name)) is not None]
    if not pairs:
        raise RequestError("the reports have no variant in common; measure the same variants")
    found: list[Regression] = []
    for before, after in pairs:
        found += [*_by_caption(before, after), *_sizes(before, after), *_memory(before, after)]
        if old.hardware == new.hardware and old.disturbed is False and new.disturbed is False:
            found += _times(before, after)
    return found


def _by_caption(before: VariantReport, after: VariantReport) -> Iterator[Regression]:
    for row in compare(after.name, before.name, after.values, before.values):
        metric = METRICS[row.metric]
        if row.p_holm >= ALPHA or row.difference == 0:
            continue
        worse = (row.difference < 0) == (metric.better == "higher")
        matters = abs(row.difference) >= row.margin
        text = (
            f"{'worse' if worse else 'better'} by {abs(row.difference):.4g} {metric.unit if metric.unit != '1' else ''}".rstrip()
            + f" (95 % interval {row.bca[0]:.4g} to {row.bca[1]:.4g}, p = {row.p_holm:.2g}, {row.n} captions)"
            + ("" if matters else f", less than matters ({row.margin:g})")
        )
        yield Regression(after.name, row.metric, text, worse and matters)


def _times(before: VariantReport, after: VariantReport) -> Iterator[Regression]:
    for name in TIMES:
        old, new = before.figures.get(name), after.figures.get(name)
        if not (isinstance(old, Measured) and isinstance(new, Measured)):
            continue
        slower = new.value > SLOWER * old.value and new.value > (old.quartiles or (0.0, old.value))[1]
        faster = old.value > SLOWER * new.value and old.value > (new.quartiles or (0.0, new.value))[1]
        if slower or faster:
            yield Regression(after.name, name, f"{old.value:.4g} s before, {new.value:.4g} s now", slower)


def _sizes(before: VariantReport, after: VariantReport) -> Iterator[Regression]:
    if after.size > LARGER * before.size or before.size > LARGER * after.size:
        text = f"{before.size:,} bytes before, {after.size:,} now"
        yield Regression(after.name, "files", text, after.size > before.size)


def _memory(before: VariantReport, after: VariantReport) -> Iterator[Regression]:
    old, new = before.figures.get("peak_memory"), after.figures.get("peak_memory")
    if isinstance(old, Measured) and isinstance(new, Measured):
        ratio = new.value / old.value
        if not 1 / HUNGRIER <= ratio <= HUNGRIER:
            text = f"{megabytes(old.value)} before, {megabytes(new.value)} now"
            yield Regression(after.name, "peak_memory", text, ratio > 1)
