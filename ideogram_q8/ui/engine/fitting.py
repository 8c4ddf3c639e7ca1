"""Whether a variant fits the device, before anything is built or loaded: `budget` asked for the page's cards."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds.gguf_build import is_gguf, open_transformers
from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4_TRAITS, Branch, TransformerConfig
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.runtime.memory.budget import Networks
from ideogram_q8.sources import Companions, open_source


@dataclass(frozen=True)
class Fit:
    """Peak bytes of a picture under the first plan that fits, or the thriftiest; `plan` is None where none fits.

    `short_of_host` is what faster plans lack of main memory, in words.
    """

    needed: int
    available: int
    plan: str | None
    offloads: bool
    short_of_host: str = ""

    def __str__(self) -> str:
        lacks = f" ({self.short_of_host})" if self.short_of_host else ""
        if self.plan is None:
            return f"does not fit: {gigabytes(self.available)} free{lacks}"
        return f"fits with offload: {self.plan}{lacks}" if self.offloads else f"fits{lacks}"


def fit(base: Networks, variant: str, given: str | None, size: tuple[int, int], available: int, device: str) -> Fit:
    """The fit of a picture of `size`, width and height.

    Args:
        base: the networks of the source itself.
        variant: a name of `variants.VARIANT_NAMES`, or of an artifact with its manifest, or of single files, at `given`.
        available: bytes of the device.
    """
    networks = dataclasses.replace(base, schemes=_schemes(base, variant, given))
    host = usage.pinnable_bytes() if device == "cuda" else sys.maxsize
    choice = budget.choose_plan(networks, size, available, device=device, host=host)
    lacks = "; ".join(f"{each.plan.name} {budget.pins(each, host)}" for each in choice.short_of_host)
    found = choice.fits
    if found is None:
        return Fit(budget.least(networks, size, device=device).peak, available, None, offloads=True, short_of_host=lacks)
    offloads = bool(found.plan.streamed) or found.plan.encoder == "streamed"
    return Fit(found.peak, available, found.plan.name, offloads, lacks)


def best(fits: Mapping[str, Fit | None], original: str = "fp8") -> str | None:
    """The first variant but the original that fits without offload, else the first that fits at all; None where none is known to."""
    known = [(name, found) for name, found in fits.items() if name != original and found is not None and found.plan is not None]
    return next((name for name, found in [*((n, f) for n, f in known if not f.offloads), *known]), None)


def _schemes(base: Networks, variant: str, given: str | None) -> Mapping[Branch, Mapping[str, str]]:
    if given is not None:
        return _schemes_of_files(given, base.config)
    if variant == "fp8":
        return base.schemes
    return {branch: found for branch, found in _schemes_of_recipe(variant, base.config).items() if branch in base.schemes}


@functools.lru_cache(maxsize=32)
def _schemes_of_recipe(variant: str, config: TransformerConfig) -> Mapping[Branch, Mapping[str, str]]:
    parts = choose(variant, config).parts
    return {branch: {plan.linear: plan.scheme for plan in parts[branch].layers} for branch in BRANCHES}


@functools.lru_cache(maxsize=32)
def _schemes_of_files(location: str, config: TransformerConfig) -> Mapping[Branch, Mapping[str, str]]:
    path = Path(location)
    if is_gguf(path):
        return inventory.schemes(open_transformers(path, config=config))
    if path.is_file():
        rest = Companions("", path.parent, IDEOGRAM4_TRAITS, config)
        return inventory.schemes(open_source(path, rest=rest, builds=True))
    parts = Recipe.from_value(read_manifest(path).recipe).parts  # which is here before the weights are
    return {branch: {plan.linear: plan.scheme for plan in parts[branch].layers} for branch in BRANCHES if branch in parts}
