"""What would be loaded, as numbers, and the plan that has room for it: from headers alone."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

import torch

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.opening import Build, origin
from ideogram_q8.errors import ResourceError
from ideogram_q8.machine.devices import ATTENTIONS, AUTO, COMPUTES
from ideogram_q8.model.architecture import BRANCHES, Branch
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.runtime.memory.budget import Plan
from ideogram_q8.sources import Source

_log = logging.getLogger(__name__)


def find_plan(
    key: str,
    opened: Source | Artifact | Build,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    compute: str = COMPUTES[0],
    attention: str = ATTENTIONS[0],
    held: int = 0,
    branches: Collection[Branch] = BRANCHES,
) -> Plan | None:
    """The plan that a person asks for by its key; `auto` is the first with room for pictures of `size` on a CUDA device, or None.

    Faster plans that `auto` skips because they pin more main memory than there is are named in the log.

    Args:
        held: bytes of the device that will be given back before anything is loaded.
        branches: the transformers that are loaded, of those that are there.

    Raises:
        RequestError: there is no such plan for this kind of device, or for one transformer.
        ResourceError: the plan that was asked for pins more main memory than there is.
    """
    loaded = [branch for branch in branches if branch in branches_of(opened)]
    chosen = None if key == AUTO else budget.plan_named(key, device.type, loaded)
    if device.type != "cuda":
        return chosen
    networks, host = describe(opened, dtype, compute, attention, loaded), usage.pinnable_bytes()
    if chosen is not None:
        asked = budget.footprint(networks, chosen, size)
        if asked.host > host:
            raise ResourceError(
                f"--plan {key} {budget.pins(asked, host)}; choose a smaller variant, a plan that streams less, or close other programs"
            )
        return chosen
    found = budget.choose_plan(networks, size, usage.room(device) + held, host=host)
    for each in found.short_of_host:
        _log.warning("plan %s is skipped: it %s", each.plan.key, budget.pins(each, host))
    return None if found.fits is None else found.fits.plan


def branches_of(opened: Source | Artifact | Build) -> tuple[Branch, ...]:
    """The transformers that are there to load."""
    return (opened.weights if isinstance(opened, Build) else opened).branches


def describe(
    opened: Source | Artifact | Build,
    dtype: torch.dtype,
    compute: str = COMPUTES[0],
    attention: str = ATTENTIONS[0],
    branches: Collection[Branch] = BRANCHES,
) -> budget.Networks:
    """What `model.load` would load of `branches`, as numbers, from headers alone.

    Raises:
        SourceError, ArtifactError: as `model.load`.
    """
    if isinstance(opened, Source):
        found = inventory.of_files(opened, opened.folder, opened.config, dtype)
        compute = COMPUTES[0]
    else:
        build = opened.weights if isinstance(opened, Build) else opened
        found = inventory.of_files(build, origin(opened)[1], build.transformer_config, dtype)
    schemes = {branch: found.schemes[branch] for branch in found.schemes if branch in branches}
    return replace(found, schemes=schemes, compute=compute, attention=attention)
