"""What was measured in this folder, carried over to an RTX 3090: of steps, or of products where no step could be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ideogram_q8.bench import results, tables
from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import DENOISE_FILE, LINEAR_FILE, CardSetting
from ideogram_q8.bench.cards import CARDS
from ideogram_q8.bench.projection import project
from ideogram_q8.bench.results import DenoiseResult, LinearResult, Result
from ideogram_q8.errors import RequestError

TARGET = "rtx-3090"


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""

    def carried() -> Mapping[str, object]:
        found = project(_measured(setting.folder), CARDS[TARGET])
        print(tables.projection_table(found))
        return asdict(found)

    report.attempts([(TARGET, carried)])


def _measured(folder: Path) -> Result:
    """Raises RequestError: nothing was."""
    for path in (folder / DENOISE_FILE, folder / LINEAR_FILE):
        found = results.read(path) if path.exists() else None
        if isinstance(found, DenoiseResult | LinearResult) and any(row.timing is not None for row in found.rows):
            return found
    raise RequestError("neither a step nor a product was measured")
