"""What every variant of `bench denoise` paints: one random caption, one noise, the timesteps of a preset; and what a variant gives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.bench.linear import operations
from ideogram_q8.bench.linear.operations import PRESET
from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.results import Arithmetic, DenoiseSettings, StepPart
from ideogram_q8.model.architecture import SIDE_MULTIPLE, TransformerConfig
from ideogram_q8.runtime.generation.sampling import sigmas, timesteps

GUIDANCE = 7.0
"""Of Ideogram 4's main steps."""


@dataclass(frozen=True)
class StepScene:
    """`available` bytes of the device are what a variant may take."""

    settings: DenoiseSettings
    config: TransformerConfig
    pool: Pool
    available: int

    @property
    def device(self) -> torch.device:
        return self.pool.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pool.dtype

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.settings.height // SIDE_MULTIPLE, self.settings.width // SIDE_MULTIPLE

    @property
    def image_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @functools.cached_property
    def features(self) -> torch.Tensor:
        """The text encoder's output, [text tokens, llm_features_dim]."""
        return self.pool.values("features", (self.settings.text_tokens, self.config.llm_features_dim), spread=1.0)

    @functools.cached_property
    def latents(self) -> torch.Tensor:
        """Noise, float32 [1, image tokens, channels]."""
        return self.pool.values("latents", (1, self.image_tokens, self.config.in_channels), spread=1.0).float()

    @functools.cached_property
    def t(self) -> torch.Tensor:
        """Timesteps that bfloat16 has, as diffusers' pipeline rounds them: float32 [steps]."""
        levels = sigmas(PRESET, self.settings.width, self.settings.height)[:-1]
        return timesteps(levels).to(torch.bfloat16).float().to(self.device)

    def draw(self) -> None:
        """Makes what every variant sees, so that none of it counts as one variant's memory."""
        for _ in (self.features, self.latents, self.t):
            pass

    @property
    def operations(self) -> dict[str, int]:
        """Operations of one step, by kind of product."""
        return dict(operations.of_a_step(self.config, self.settings.text_tokens, self.image_tokens))


@dataclass(frozen=True)
class Built:
    """A variant in memory. `step(i)` runs both branches at the i-th timestep: the guided velocity, as `Denoiser.velocity`.

    `parts` measures the kinds of work of a step, where they can be told apart.
    """

    step: Callable[[int], torch.Tensor]
    parts: Callable[[], tuple[StepPart, ...]] = tuple
    predicted_bytes: int | None = None
    streamed: tuple[str, ...] = ()
    note: str = ""
    arithmetic: Arithmetic | None = None
    """What its products run in, where that is not what its name says; None is the variant's."""
    compiles: bool = False
    """In its first step, which then says nothing of the others, not even on a CPU."""


@dataclass(frozen=True)
class BenchVariant:
    """One that can be asked for by name. `build` raises where it cannot be had here."""

    name: str
    label: str
    arithmetic: Arithmetic
    build: Callable[[StepScene], Built]
    peer: bool = False


def guided(unconditional: torch.Tensor, conditional: torch.Tensor) -> torch.Tensor:
    """Mixes both branches' velocities by guidance."""
    return torch.lerp(unconditional, conditional, GUIDANCE)
