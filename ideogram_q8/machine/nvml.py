"""What an NVIDIA card says of itself through NVML, where the package `nvidia-ml-py` and such a card are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Answer = TypeVar("Answer")


def driver(device: torch.device) -> str | None:
    """The version of the driver of a CUDA device; None as in `ask`."""
    return ask(device, lambda nvml, _card: str(nvml.nvmlSystemGetDriverVersion()))


def ask(device: torch.device, question: Callable[[Any, Any], Answer]) -> Answer | None:
    """What `question` makes of NVML's module `pynvml` and the handle of a CUDA device's card; None where NVML cannot be asked."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return question(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}"))
    except pynvml.NVMLError:
        return None
