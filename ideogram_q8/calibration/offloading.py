"""Calibrating on cards that do not hold the transformers: the blocks of all are streamed (`ideogram_q8.runtime.loading.streaming`)."""

from __future__ import annotations

import torch

from ideogram_q8.runtime.loading.model import Model


def offload_blocks(model: Model, device: torch.device) -> None:
    """Makes a model that was loaded on the CPU run on `device`, for good.

    What lies outside the blocks moves there now, the text encoder when it is loaded. The VAE stays, for calibrating decodes nothing.
    """
    model.stream([branch for branch in ("unconditional", "conditional") if branch in model.branches], device)
