"""Figures for the variants' cards, out of report.json, where it was made with these very files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.builds.variants import Variant
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.manifest import identity
from ideogram_q8.formats.report import FILE_NAME, Measured, Report, VariantReport

MAX_REPORT_BYTES = 64 * 2**20
_MOST_CHARACTERS = 60


@dataclass(frozen=True)
class VariantFigures:
    """What a report says of a variant: time of a step on `machine` in seconds, and likeness to `reference` in dB; None where absent."""

    machine: str
    reference: str
    seconds_per_step: float | None
    psnr: float | None


def read_report(path: Path) -> Report:
    """Raises ArtifactError: there is none, it is too large, or not of the known form."""
    try:
        with file_kinds.open_regular(path) as file:
            data = file.read(MAX_REPORT_BYTES + 1)
        if len(data) > MAX_REPORT_BYTES:
            raise ArtifactError(f"more than {MAX_REPORT_BYTES} bytes")
        return Report.from_json(data.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"{path}: {error}; expected the report.json that `evaluate` wrote") from error


def figures(variants: Iterable[Variant], given: Report | None) -> Mapping[str, VariantFigures]:
    """Figures by variant: out of a report beside its files, else out of `given`. A report of other files counts for nothing."""
    found = {}
    for variant in variants:
        if variant.described_in is None:
            continue
        report = _beside(Path(variant.described_in)) or given
        measured = None if report is None else _of_these_files(variant, report)
        if report is not None and measured is not None:
            machine = _short(report.hardware.accelerator or report.hardware.processor)
            reference = _short(report.settings.reference)
            found[variant.name] = VariantFigures(
                machine, reference, _value(measured, "seconds_per_step"), _value(measured, "psnr")
            )
    return found


def _short(text: str) -> str:
    """A stranger's words on a card."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _beside(location: Path) -> Report | None:
    try:
        return read_report((location if location.is_dir() else location.parent) / FILE_NAME)
    except ArtifactError:
        return None


def _of_these_files(variant: Variant, report: Report) -> VariantReport | None:
    """The figures of files with the sha256 of the variant's manifest; without one, of the variant's name and size.

    Figures of the same files with another attention are another variant's, which its identity shows.
    """
    try:
        own = {record.sha256 for record in read_manifest(Path(str(variant.described_in))).files}
    except ArtifactError:
        named = report.variant(variant.name)
        return named if named is not None and named.size == variant.size_bytes and _is_plain(named) else None
    return next((each for each in report.variants if {file.sha256 for file in each.files} == own and _is_plain(each)), None)


def _is_plain(measured: VariantReport) -> bool:
    return measured.artifact_sha256 == identity(file.sha256 for file in measured.files)


def _value(measured: VariantReport, name: str) -> float | None:
    figure = measured.figures.get(name)
    return figure.value if isinstance(figure, Measured) else None
