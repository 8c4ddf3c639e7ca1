"""The generator of full-size checkpoints: the bytes that the official file has, and a header as safetensors writes it."""

from __future__ import annotations

import dataclasses

import torch
from safetensors.torch import save

from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.recipes.folding import Folding, fold_points
from ideogram_q8.sources import open_source
from tests import full_size
from tests.synthetic import TINY, TINY_TRAITS, fp8_tensors


def test_the_official_file_has_9289792888_bytes():
    assert full_size.file_bytes(IDEOGRAM4) == 9_289_792_888
    assert len(full_size.entries(IDEOGRAM4)) == 669


def test_the_header_is_that_of_safetensors():
    header = full_size.header(TINY)
    assert save(fp8_tensors(TINY, 0), {"format": "pt"}).startswith(header)


def test_what_it_writes_is_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(full_size, "IDEOGRAM4", dataclasses.replace(TINY, num_layers=34))
    folders = [full_size.write(tmp_path / str(layers), layers) for layers in (1, 2)]
    first, second = (open_source(folder) for folder in folders)
    assert (first.config.num_layers, second.config.num_layers) == (1, 2)
    for name in first.branch("conditional").names:
        weight = first.branch("conditional").read(name)
        assert torch.equal(weight, second.branch("conditional").read(name))
        assert not torch.equal(weight, first.branch("unconditional").read(name))
    spread = first.branch("conditional").read("layers.0.feed_forward.w1.weight").float().std()
    assert 0.8 / 16 < spread < 1.2 / 16  # 1 / sqrt(256)
    assert first.traits != TINY_TRAITS


def test_the_smoothed_recipe_folds_everywhere():
    recipe = full_size.smoothed(TINY)
    recipe.check(TINY)
    for part in recipe.parts.values():
        Folding(part, TINY)
        assert {item.fold for item in part.smoothing} == set(fold_points(TINY))
