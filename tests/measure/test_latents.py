"""Ways from noise to picture: what is written is read, and errors are their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ideogram_q8.measure import latents
from ideogram_q8.runtime.generation.sampling import Request, generate, initial_noise
from ideogram_q8.runtime.loading.model import load


def some_way(seed: int) -> torch.Tensor:
    return torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(seed))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = some_way(0)
    latents.write(tmp_path / "a.safetensors", values)
    assert latents.read(tmp_path / "a.safetensors").equal(values)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    size = (tmp_path / "a.safetensors").stat().st_size
    assert latents.way_bytes(3, 6, 5) <= size < latents.way_bytes(3, 6, 5) + 200


def test_errors_are_their_formulas() -> None:
    reference, found = some_way(1), some_way(2)
    found[0] = reference[0]
    errors = latents.errors(reference, found)
    assert errors.latent_mse == pytest.approx([(found[i] - reference[i]).square().mean().item() for i in (1, 2, 3)], rel=1e-5)
    for i in range(3):
        signal, noisy = (way[i + 1] - way[i] for way in (reference, found))
        ratio = signal.square().sum() / (noisy - signal).square().sum()
        assert errors.velocity_snr[i] == pytest.approx(10 * math.log10(ratio), rel=1e-5)
    assert errors.final_decibels == pytest.approx(10 * math.log10(errors.latent_mse[-1]))
    assert errors.mean_snr == pytest.approx(sum(errors.velocity_snr) / 3)


def test_equal_ways_have_finite_errors() -> None:
    errors = latents.errors(some_way(1), some_way(1))
    assert errors.latent_mse == (1e-14,) * 3 and errors.velocity_snr == (140.0,) * 3


def test_a_way_starts_at_the_noise_and_has_the_models_velocities() -> None:
    model, request = load("pocket"), Request("a red star on a blue background", 3, "turbo-12", 64, 64)
    places, velocities = [], []

    def watch(step):
        places.append(step.latents)
        velocities.append(step.velocity * (step.sigma - step.next_sigma))

    generate(model, request, watch)
    found = latents.way(initial_noise(request, model.config.in_channels), places)
    assert found.shape[0] == 13 and found.dtype == torch.float32
    assert torch.allclose(found.diff(dim=0), torch.cat(velocities), atol=1e-5)
