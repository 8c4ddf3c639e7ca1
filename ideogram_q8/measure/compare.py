"""Shares of a run -> report. Pure but for reading the shares: the same measurements give the same figures."""

from __future__ import annotations

import statistics as numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ideogram_q8.errors import RequestError
from ideogram_q8.formats import report
from ideogram_q8.formats.metrics import per_caption
from ideogram_q8.formats.report import Figure, Measured, NotMeasured, StepError, VariantReport
from ideogram_q8.measure import energy
from ideogram_q8.measure.measurement import Measurement, Run, Share
from ideogram_q8.measure.painting import Painted
from ideogram_q8.measure.statistics import compare, intervals, measured

ITSELF = "the reference itself"
_MACHINES = "shards ran on different machines"


@dataclass(frozen=True)
class ComparedVariant:
    """All pictures of a variant in the suite's order, and where each one's folder OUT is."""

    share: Share
    pictures: tuple[Measurement, ...]
    folders: tuple[Path, ...]

    @property
    def painted(self) -> list[Painted]:
        return [picture.painted for picture in self.pictures]

    def values(self, metric: str) -> list[float | None]:
        """One a caption."""
        return [picture.values.get(metric) for picture in self.pictures]


@dataclass(frozen=True)
class Whole:
    """A run with all its shards."""

    run: Run
    variants: tuple[ComparedVariant, ...]
    one_machine: bool


def gather(folders: Sequence[Path]) -> Whole:
    """Reads what `measure` left in one or more folders OUT.

    Raises:
        RequestError: nothing is there, the folders are of different runs, or captions are missing or measured twice.
        ArtifactError: a file is not what `measure` writes.
    """
    shares = [
        (folder, Share.from_json(file.read_text(encoding="utf-8"), str(file))) for folder in folders for file in _files(folder)
    ]
    first = shares[0][1]
    for folder, share in shares:
        if share.run != first.run:
            raise RequestError(
                f"{folder} is of another run than {folders[0]} ({_difference(share.run, first.run)}); merge one run only"
            )
    hardware = {share.hardware for _, share in shares}
    variants = tuple(_variant(name, [(f, s) for f, s in shares if s.name == name], first.run) for name in first.run.places)
    return Whole(first.run, variants, len(hardware) == 1)


def _files(folder: Path) -> list[Path]:
    files = sorted((folder / "measured").glob("*.json"))
    if not files:
        raise RequestError(f"{folder} holds no measurements; name folders that `evaluate --out` wrote into")
    return files


def _difference(a: Run, b: Run) -> str:
    for name in ("suite", "settings", "places", "tool_version", "cases"):
        if getattr(a, name) != getattr(b, name):
            return f"another {name}"
    return "equal"


def _variant(name: str, shares: Sequence[tuple[Path, Share]], run: Run) -> ComparedVariant:
    rows = sorted(((p, folder) for folder, share in shares for p in share.pictures), key=lambda row: row[0].position)
    found, wanted = [picture.position for picture, _ in rows], range(len(run.cases))
    missing, twice = sorted(set(wanted) - set(found)), len(found) - len(set(found))
    if missing or twice:
        raise RequestError(
            f"{name} has {len(missing)} captions not measured yet and {twice} measured twice, of {len(run.cases)}; "
            "run every shard of the same count to its end, and name each folder once"
        )
    return ComparedVariant(shares[0][1], tuple(picture for picture, _ in rows), tuple(folder for _, folder in rows))


def assemble(whole: Whole) -> report.Report:
    """The report; statistics are computed here."""
    first = whole.variants[0]
    values = {variant.share.name: captions(variant) for variant in whole.variants}
    names = list(values)
    pairs = [(candidate, baseline) for i, candidate in enumerate(names) for baseline in names[:i]]
    return report.Report(
        format_version=report.FORMAT_VERSION,
        tool_version=whole.run.tool_version,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        hardware=first.share.hardware,
        software=first.share.software,
        suite=whole.run.suite,
        settings=whole.run.settings,
        variants=tuple(_entry(variant, values[variant.share.name], whole) for variant in whole.variants),
        cases=whole.run.cases,
        comparisons=tuple(row for a, b in pairs for row in compare(a, b, values[a], values[b])),
    )


def captions(variant: ComparedVariant) -> dict[str, tuple[float | None, ...]]:
    """Values of each metric that at least one caption has."""
    found = {metric.name: tuple(variant.values(metric.name)) for metric in per_caption()}
    return {name: values for name, values in found.items() if any(value is not None for value in values)}


def _entry(variant: ComparedVariant, values: Mapping[str, tuple[float | None, ...]], whole: Whole) -> VariantReport:
    loads = [(record.seconds, record.other_cpus) for record in variant.painted]
    known = [(seconds, cpus) for seconds, cpus in loads if cpus is not None]
    busy = (
        sum(seconds * cpus for seconds, cpus in known) / sum(seconds for seconds, _ in known)
        if len(known) == len(loads)
        else None
    )
    return VariantReport(
        name=variant.share.name,
        artifact_sha256=variant.share.artifact_sha256,
        files=variant.share.files,
        samples=(),
        other_cpus=None if busy is None else round(busy, 4),
        figures=_figures(variant, values, whole),
        values=values,
        steps=_steps(variant.painted),
    )


def _figures(variant: ComparedVariant, values: Mapping[str, tuple[float | None, ...]], whole: Whole) -> dict[str, Figure]:
    is_reference = variant.share.name == whole.run.settings.reference
    figures: dict[str, Figure] = {}
    for metric in per_caption():
        present = [value for value in values.get(metric.name, ()) if value is not None]
        reason = variant.share.missing.get(metric.name, metric.absent)
        if metric.fidelity and is_reference:
            reason = ITSELF
        figures[metric.name] = measured(present, metric.unit, metric.largest) if present else NotMeasured(reason)
    costs = _costs(variant.painted)
    return figures | (costs if whole.one_machine else dict.fromkeys(costs, NotMeasured(_MACHINES)))


def _costs(painted: Sequence[Painted]) -> dict[str, Figure]:
    starts = list(dict.fromkeys(record.started for record in painted))
    joules = [record.joules for record in painted if record.joules is not None]
    peaks = {
        "peak_memory": [record.peak_bytes for record in painted],
        "peak_memory_text": [start.text_bytes for start in starts],
        "peak_memory_denoise": [start.denoise_bytes for start in starts],
        "peak_memory_decode": [start.decode_bytes for start in starts],
    }
    return {
        "seconds_per_step": time_of([second for record in painted for second in record.step_seconds]),
        "seconds_per_picture": time_of([record.seconds for record in painted]),
        "load_seconds": Measured(round(numbers.median(s.load_seconds for s in starts), 6), len(starts), None, "s"),
        **{name: Measured(max(values), len(values), None, "bytes") for name, values in peaks.items()},
        "energy": measured(joules, "J") if joules else NotMeasured(energy.REASON),
    }


def time_of(seconds: Sequence[float]) -> Measured:
    """Median and quartiles. No interval: times of one run are not independent of each other."""
    low, median, high = (round(float(value), 6) for value in np.percentile(seconds, [25, 50, 75]))
    return Measured(median, len(seconds), None, "s", (low, high))


def _steps(painted: Sequence[Painted]) -> tuple[StepError, ...]:
    errors = [record.errors for record in painted if record.errors is not None]
    if not errors:
        return ()
    mse = np.array([found.latent_mse for found in errors]).mean(axis=0)
    snr = np.array([found.velocity_snr for found in errors])
    low, high = intervals(snr)[1]
    rows = zip(mse, snr.mean(axis=0), low, high, strict=True)
    return tuple(
        StepError(float(f"{a:.6g}"), round(float(b), 4), (round(float(c), 4), round(float(d), 4))) for a, b, c, d in rows
    )
