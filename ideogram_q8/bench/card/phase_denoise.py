"""A step of every variant at the real width, others' programs beside them: `bench denoise` with a line for each."""

from __future__ import annotations

from dataclasses import asdict, replace

from ideogram_q8.bench import results
from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import DENOISE_FILE, CardSetting
from ideogram_q8.bench.picture import denoise
from ideogram_q8.bench.results import DenoiseResult, DenoiseRow

VARIANTS = (
    *("int8", "diffusers-compiled", "int8-attention", "unquantized", "int8-rotated-attention", "q8_0-int8", "q4_k_s-int8"),
    *("comfy", "int8-overlap", "fp8", "q8_0", "q4_k_s", "int8-rotated", "torchao", "sdnq", "nf4"),
)
"""What settles most comes first."""
_REHEARSED = ("int8", "diffusers", "int8-attention", "unquantized", "q8_0-int8", "q4_k_s-int8", "comfy", "int8-overlap")


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Writes DENOISE_FILE anew after each variant."""
    path = setting.folder / DENOISE_FILE
    left = report.plan(_REHEARSED if setting.rehearse else VARIANTS)
    before = results.read(path) if report.seen and path.exists() else None
    told: set[str] = set()

    def keep(result: DenoiseResult) -> None:
        whole = _joined(before, result)
        results.write(path, results.to_json(whole))
        for row in result.rows:
            if row.variant not in told and row.note != denoise.NOT_REACHED:
                told.add(row.variant)
                add_row(report, row.variant, row)

    found = denoise.measure(setting.denoising(tuple(left)), setting.device, setting.config, keep=keep)
    results.write(path, results.to_json(_joined(before, found)))


def add_row(report: PhaseReport, name: str, row: DenoiseRow) -> None:
    """Writes a variant's line: refused or failed as its note says, where it has no timing."""
    seconds = 0.0 if row.timing is None else sum(row.timing.samples)
    if row.timing is not None:
        report.add(name, asdict(row), seconds=seconds)
    elif row.note.endswith("is not installed"):
        report.add(name, asdict(row), "missing", row.note)
    else:
        report.add(name, asdict(row), "failed" if row.note.startswith("failed: ") else "refused", row.note)


def _joined(before: object, result: DenoiseResult) -> DenoiseResult:
    """With the rows of a process that ended before this one."""
    if not isinstance(before, DenoiseResult):
        return result
    again = set(result.settings.variants)
    rows = (*(row for row in before.rows if row.variant not in again), *result.rows)
    return replace(result, rows=rows, settings=replace(result.settings, variants=tuple(row.variant for row in rows)))
