"""The way from noise to picture as numbers: the reference's is kept, and every other variant's is compared with it, step by step.

Each variant goes its own way from the same noise, so errors add up as they do in use. Far more sensitive than pictures, which round to
8 bits, and free: nothing is computed twice. A way is float32, steps * tokens * channels * 4 bytes a picture (0.3 MB for the pocket,
100 MB for Ideogram 4 at 1024x1024 in 48 steps), so only the first pictures of a run keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.formats import whole_file

MOST_BYTES = 4 * 10**9
"""For all ways that a run keeps together."""
_LEAST_MSE = 1e-14
"""What equal latents count as: about float32's rounding of values around 1."""
_MOST_SNR = 140.0
"""Decibels that equal velocities count as, likewise."""


@dataclass(frozen=True)
class Errors:
    """Errors by step: mean squared error of the latents, and signal to noise of the velocity in dB."""

    latent_mse: tuple[float, ...]
    velocity_snr: tuple[float, ...]

    @property
    def final_decibels(self) -> float:
        """10 log10 of the squared error after the last step."""
        return 10 * math.log10(self.latent_mse[-1])

    @property
    def mean_snr(self) -> float:
        return sum(self.velocity_snr) / len(self.velocity_snr)


def final_decibels(errors: Errors) -> float:
    """The metric `latent_mse`, as `formats.metrics` names it."""
    return errors.final_decibels


def mean_snr(errors: Errors) -> float:
    """The metric `velocity_snr`, likewise."""
    return errors.mean_snr


def way(noise: torch.Tensor, latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """float32 [steps + 1, tokens, channels] on the CPU: the noise, and where each step led; each [1, tokens, channels]."""
    return torch.cat([noise.to("cpu", torch.float32), *(value.to("cpu", torch.float32) for value in latents)])


def way_bytes(steps: int, tokens: int, channels: int) -> int:
    """What `write` takes on disk, but for a header."""
    return 4 * (steps + 1) * tokens * channels


def write(path: Path, values: torch.Tensor) -> None:
    """Writes `values` float32 [steps + 1, tokens, channels], whole or not at all."""
    with whole_file.replacing(path) as temporary:
        save_file({"latents": values.contiguous()}, temporary)


def read(path: Path) -> torch.Tensor:
    """What `write` wrote."""
    return load_file(path)["latents"]


def errors(reference: torch.Tensor, found: torch.Tensor) -> Errors:
    """Errors between two paths of latents of one shape. A velocity is a difference of latents over that of the noise levels."""
    mse = (found - reference).double().square().mean((1, 2))[1:].clamp_min(_LEAST_MSE)
    velocity = reference.double().diff(dim=0)
    noise = (found.double().diff(dim=0) - velocity).square().sum((1, 2))
    snr = 10 * torch.log10(velocity.square().sum((1, 2)) / noise.clamp_min(1e-300))
    return Errors(tuple(mse.tolist()), tuple(snr.clamp(-_MOST_SNR, _MOST_SNR).tolist()))
