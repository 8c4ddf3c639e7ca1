"""Statistics of a source that never ran: random inputs with outliers where a test wants them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ideogram_q8.model.components import component
from ideogram_q8.recipes.statistics import FORMAT_VERSION, Calibration, LinearStatistics, Statistics, shared_input
from ideogram_q8.sources import Checkpoint

STEPS = 3
ROWS = 24


def statistics_of(source: Checkpoint, outliers: Mapping[str, float], seed: int = 0) -> Statistics:
    """Normal inputs for every Linear that runs; `outliers` maps a Linear to the factor of its third input channel."""
    generator = torch.Generator().manual_seed(seed)
    entries = {}
    model = component(source.config)
    for part in model.parts:
        for linear in model.linears:
            if linear.runs and shared_input(linear.name) == linear.name:
                inputs = torch.randn(ROWS, linear.in_features, generator=generator)
                inputs[:, 2] *= outliers.get(linear.name, 1.0)
                entries[part, linear.name] = entry_of(inputs)
    calibration = Calibration(FORMAT_VERSION, source.record(), ("0" * 64,), "turbo-12", 64, 64, 0, STEPS, ROWS)
    return Statistics(calibration, entries)


def entry_of(inputs: torch.Tensor) -> LinearStatistics:
    """The statistics of float32 [ROWS, K], ROWS / STEPS of them at each step."""
    size = inputs.abs()
    peaks = (size.amax(1) / size.mean(1)).reshape(STEPS, -1)
    return LinearStatistics(
        amax=size.amax(0),
        square_sum=inputs.double().square().sum(0),
        count=torch.tensor([len(inputs)]),
        step_peak_sum=peaks.double().sum(1),
        step_peak_max=peaks.amax(1),
        step_count=torch.full((STEPS,), peaks.shape[1]),
        sample=inputs,
        sample_key=torch.arange(len(inputs)),
    )
