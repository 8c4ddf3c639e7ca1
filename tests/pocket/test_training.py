"""Training learns, resumes to the same weights as an unbroken run, and exports what it trained as a source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ideogram_q8.runtime.loading.networks import load_vae
from ideogram_q8.sources import open_source
from ideogram_q8.training import model, muon, runner, train

pytestmark = pytest.mark.slow

TINY = replace(train.TrainingSettings(), scenes=256, batch=4, dit_steps=6, decoder_steps=6, uncond_steps=2, decoder_batch=4)


@pytest.fixture(scope="module")
def cache() -> train.Cache:
    return train.build_cache(TINY, train.fit_basis(TINY))


def test_an_interrupted_run_gives_the_weights_of_an_unbroken_one(
    tmp_path: Path, cache: train.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train.train_transformer(TINY, tmp_path / "whole", cache, "dit", None).state_dict()
    original = train.velocity_loss

    def killed_at_3(*arguments: object, **named: object) -> torch.Tensor:
        if arguments[4] == 3:
            raise KeyboardInterrupt
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "velocity_loss", killed_at_3)
    monkeypatch.setattr(runner, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train.train_transformer(TINY, tmp_path / "broken", cache, "dit", None)
    monkeypatch.setattr(train, "velocity_loss", original)
    resumed = train.train_transformer(TINY, tmp_path / "broken", cache, "dit", None).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_three_stages_are_exported_as_a_source(tmp_path: Path, cache: train.Cache) -> None:
    conditional = train.train_transformer(TINY, tmp_path, cache, "dit", None)
    train.train_transformer(TINY, tmp_path, cache, "uncond", conditional.state_dict())
    train.export(TINY, tmp_path, tmp_path / "out", cache)  # trains the decoder, which has no checkpoint yet
    source = open_source(tmp_path / "out")
    assert source.traits == model.TRAITS
    trained = conditional.layers[0].feed_forward.w2.weight
    stored = source.branch("conditional").read("layers.0.feed_forward.w2.weight").float()
    assert (stored - trained).norm() / trained.norm() < 0.05  # e4m3 has 3 bits of mantissa
    assert not torch.equal(stored, source.branch("unconditional").read("layers.0.feed_forward.w2.weight").float())
    vae = load_vae(tmp_path / "out" / "vae", torch.device("cpu"), torch.float32)
    assert torch.allclose(vae.bn.running_mean, cache.shift, rtol=2**-8)  # stored as bfloat16


def test_orthogonalised_keeps_directions_and_levels_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((64, 32), (32, 64), (48, 48)):
        matrix = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        leveled = u.T @ muon.orthogonalised(matrix) @ v.T
        values = leveled.diagonal()
        assert ((values > 0.2) & (values < 1.3)).all()
        assert (leveled - torch.diag(values)).abs().max() < 1e-3


def test_velocity_loss_starts_at_the_energy_of_the_target_and_falls(cache: train.Cache) -> None:
    transformer = model.build_transformer()
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=2e-3)
    losses = []
    for step in range(8):
        loss = train.velocity_loss(transformer, cache, TINY, "dit", 0 * step, with_text=True)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(2.0, rel=0.3)  # the output starts at zero; clean and noise have unit energy each
    assert losses[-1] < 0.9 * losses[0]
