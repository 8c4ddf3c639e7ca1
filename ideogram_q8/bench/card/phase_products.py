"""Every product of Ideogram 4 by every way of ours: `bench linear` with a line for each product. Needs no diffusers."""

from __future__ import annotations

from dataclasses import asdict, replace

from ideogram_q8.bench import results
from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import LINEAR_FILE, CardSetting
from ideogram_q8.bench.linear import linears
from ideogram_q8.bench.linear.linear_paths import OWN
from ideogram_q8.bench.results import LinearResult, LinearSettings

_ROUNDS = 2
_REHEARSED = ("attention.o",)


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Writes LINEAR_FILE anew after each product."""
    path = setting.folder / LINEAR_FILE
    config, kinds = setting.config, _REHEARSED if setting.rehearse else ()
    left = report.plan(case.shape.kind for case in linears.cases(config, setting.sizes.rows, kinds or None))
    dtype = str(setting.dtype).removeprefix("torch.")
    settings = LinearSettings(dtype, setting.sizes.rows, tuple(left), _ROUNDS, 0)
    before = results.read(path) if report.seen and path.exists() else None
    rows_before = before.rows if isinstance(before, LinearResult) else ()
    told: set[str] = set()

    def keep(result: LinearResult) -> None:
        results.write(path, results.to_json(replace(result, rows=(*rows_before, *result.rows))))
        for kind in dict.fromkeys(row.kind for row in result.rows):
            if kind not in told:
                told.add(kind)
                rows = [asdict(row) for row in result.rows if row.kind == kind]
                report.add(kind, {"peaks": asdict(result.peaks), "rows": rows})

    keep(linears.measure(settings, setting.device, config, OWN, keep=keep))
