"""Both branches one after the other and at once on two streams, on some blocks of random weights: which is faster on this device.

A large product fills the card by itself, so that two at once gain nothing, or lose to the cache; at small sizes they fill each other's
gaps. It depends on the card, the size and the number format, so it is measured for each (`table.Overlap`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ideogram_q8.bench.linear.random_weights import FP8, Pool, RandomBranch, WeightForm
from ideogram_q8.machine.devices import ATTENTIONS, COMPUTES
from ideogram_q8.model.architecture import BRANCHES, SIDE_MULTIPLE, TransformerConfig, linears
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.denoising import Denoiser, Side, velocities
from ideogram_q8.runtime.kernels.choosing import table, tuning
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.runtime.memory import inventory
from ideogram_q8.runtime.memory.budget import Encoder, Networks

BLOCKS = 4
"""Of each branch: enough to hide the beginning and the end of a step, as a whole branch does."""


@dataclass(frozen=True)
class Way:
    """A variant by its name, and one of COMPUTES and of ATTENTIONS."""

    variant: str
    compute: str = COMPUTES[0]
    attention: str = ATTENTIONS[0]

    def __str__(self) -> str:
        compute = f", {self.compute} compute" if self.compute != COMPUTES[0] else ""
        return f"{self.variant}{compute}{f', {self.attention} attention' if self.attention != ATTENTIONS[0] else ''}"


WAYS = (
    Way(FP8),
    Way("int8"),
    Way("int8", attention="int8"),
    Way("q8_0"),
    Way("q8_0", "int8"),
    Way("q4_k_s"),
    Way("q4_k_s", "int8"),
)


@dataclass(frozen=True)
class Setting:
    """What both branches see; `size` in pixels, width and height."""

    config: TransformerConfig
    size: tuple[int, int]
    text_tokens: int
    device: torch.device
    dtype: torch.dtype


@torch.no_grad()
def measure(way: Way, setting: Setting, side: Side, seconds: float) -> table.Overlap:
    """Keeps nothing.

    Args:
        seconds: for each of both, about.
    """
    schemes = _schemes(way.variant, setting.config)
    pair = inventory.pair(_networks(way, setting, schemes), setting.size)
    unconditional, conditional = _denoisers(way, setting, schemes)
    grid = setting.size[1] // SIDE_MULTIPLE, setting.size[0] // SIDE_MULTIPLE
    latents = torch.randn(1, grid[0] * grid[1], setting.config.in_channels, device=setting.device)
    runs = [functools.partial(velocities, unconditional, conditional, latents, 0, each) for each in (None, side)]
    for run in runs:
        run()  # compiles
    return table.Overlap(pair, *tuning.interleaved(runs, setting.device, seconds))


def _schemes(variant: str, config: TransformerConfig) -> dict[str, str]:
    if variant == FP8:
        return {linear.name: FP8 for linear in linears(config)}
    return {plan.linear: plan.scheme for plan in choose(variant, config).parts["conditional"].layers}


def _networks(way: Way, setting: Setting, schemes: Mapping[str, str]) -> Networks:
    both = dict.fromkeys(BRANCHES, schemes)
    return Networks(setting.config, both, Encoder(0, 0, 0), 0, (1, 1), setting.dtype, way.compute, way.attention)


def _denoisers(way: Way, setting: Setting, schemes: Mapping[str, str]) -> tuple[Denoiser, Denoiser]:
    """Denoisers of the unconditional and the conditional branch, made of some blocks like the one in the middle."""
    config, device, dtype = setting.config, setting.device, setting.dtype
    shallow, middle = replace(config, num_layers=min(BLOCKS, config.num_layers)), f"layers.{config.num_layers // 2}."
    alike = {name.removeprefix(middle): scheme for name, scheme in schemes.items() if name.startswith(middle)}
    forms = {f"layers.{i}.{rest}": WeightForm(scheme) for i in range(shallow.num_layers) for rest, scheme in alike.items()}
    pool, t = Pool(0, device, dtype), torch.tensor([0.5], device=device)
    text = torch.randn(setting.text_tokens, config.hidden_size, device=device).to(dtype)
    grid = setting.size[1] // SIDE_MULTIPLE, setting.size[0] // SIDE_MULTIPLE
    transformers = [
        build_transformer(
            RandomBranch(pool, shallow, branch, forms), shallow, device, dtype, way.compute, text_projection=False
        )
        for branch in ("unconditional", "conditional")
    ]
    first, second = (
        Denoiser(transformer, seen, grid, t, attention=way.attention)
        for transformer, seen in zip(transformers, (text[:0], text), strict=True)
    )
    return first, second
