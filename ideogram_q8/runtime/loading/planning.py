"""What would be loaded, as numbers, and the plan that has room for it: from headers alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.opening import Build, origin
from ideogram_q8.machine.devices import ATTENTIONS, AUTO, COMPUTES
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.runtime.memory.budget import Plan
from ideogram_q8.sources import Source


def find_plan(
    key: str,
    opened: Source | Artifact | Build,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    compute: str = COMPUTES[0],
    attention: str = ATTENTIONS[0],
) -> Plan | None:
    """The plan that a person asks for by its key; `auto` is the first with room for pictures of `size` on a CUDA device, or None.

    Raises:
        RequestError: there is no such plan for this kind of device.
    """
    if key != AUTO:
        return budget.plan_named(key, device.type)
    if device.type != "cuda":
        return None
    fits = budget.first_that_fits(describe(opened, dtype, compute, attention), size, usage.room(device))
    return None if fits is None else fits.plan


def describe(
    opened: Source | Artifact | Build, dtype: torch.dtype, compute: str = COMPUTES[0], attention: str = ATTENTIONS[0]
) -> budget.Networks:
    """What `model.load` would load, as numbers, from headers alone.

    Raises:
        SourceError, ArtifactError: as `model.load`.
    """
    if isinstance(opened, Source):
        return replace(inventory.of_files(opened, opened.folder, opened.config, dtype), attention=attention)
    build = opened.weights if isinstance(opened, Build) else opened
    found = inventory.of_files(build, origin(opened)[1], build.transformer_config, dtype)
    return replace(found, compute=compute, attention=attention)
