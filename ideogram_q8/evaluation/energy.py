"""Energy that a graphics card used, by its own counter (NVML), where the package `nvidia-ml-py` and such a card are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

Counter = Callable[[], float]
"""Joules since some time in the past."""
REASON = "energy is known only of NVIDIA cards since Volta, through the package nvidia-ml-py"


def counter(device: torch.device) -> Counter | None:
    """The counter of a CUDA device's card; None where there is none."""
    if device.type != "cuda":
        return None
    with contextlib.suppress(ImportError):
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(card)  # refused by older cards
            return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
    return None
