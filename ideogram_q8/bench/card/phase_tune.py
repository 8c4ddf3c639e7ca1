"""Which back end is fastest for each product of a block, kept product by product; then a step of INT8 that follows it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from ideogram_q8.bench.card.report import PhaseReport, release
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.errors import RequestError
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.runtime.kernels import Problem, block_products
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.choosing.tuning import tune

STEP = "a step of INT8, tuned"


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    plain, rotated = (list(_products(setting, rotation)) for rotation in (0, GROUP))
    report.attempts([*plain, (STEP, functools.partial(_step, setting)), *rotated])


def _products(setting: CardSetting, rotation: int) -> Iterator[tuple[str, Callable[[], Mapping[str, object]]]]:
    """The products of a block, whose inputs are rotated by groups of so many."""
    for rows in dict.fromkeys(map(table.bucket, setting.sizes.tune_rows)):
        for product in block_products(setting.config, rows, setting.device, setting.dtype, rotation):
            name = f"{product.name} x {rows}{', rotated' if rotation else ''}"
            yield name, functools.partial(_tune, product.problem, setting.sizes.tune_seconds)


def _tune(problem: Problem, seconds: float) -> Mapping[str, object]:
    try:
        (entry,) = tune([problem], seconds)
    finally:
        release()
    return asdict(entry) | {"fastest": entry.fastest}


def _step(setting: CardSetting) -> Mapping[str, object]:
    """The row of `bench denoise`. Raises RequestError: it has no timing."""
    from ideogram_q8.bench.picture import denoise

    (row,) = denoise.measure(setting.denoising(("int8",)), setting.device, setting.config).rows
    if row.timing is None:
        raise RequestError(row.note)
    return asdict(row)
