"""Energy that a graphics card used, by its own counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ideogram_q8.machine import nvml

Counter = Callable[[], float]
"""Joules since some time in the past."""
REASON = "energy is known only of NVIDIA cards since Volta, through the package nvidia-ml-py"


def counter(device: torch.device) -> Counter | None:
    """The counter of a CUDA device's card; None where there is none."""
    return nvml.ask(device, _counter)


def _counter(nvml: Any, card: Any) -> Counter:
    nvml.nvmlDeviceGetTotalEnergyConsumption(card)  # refused by older cards
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
