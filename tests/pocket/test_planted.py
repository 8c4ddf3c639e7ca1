"""Planted outliers: where they are, and that the function stays what it was but for counted roundings."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.recipes.folding import consumers
from ideogram_q8.sources import open_source
from ideogram_q8.training import planted
from ideogram_q8.training.export import WEIGHT_FILE
from tests.synthetic import TINY, fp8_tensors, write_source


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """An original and its planted copy."""
    folder = tmp_path_factory.mktemp("planted")
    lines = planted.write(folder / "copy", write_source(folder / "original"))
    assert len(lines) == len(BRANCHES)
    return folder / "original", folder / "copy"


def test_every_second_block_is_planted_the_same_way_each_time():
    plants = planted.plan(TINY)
    assert [item.fold for item in plants] == ["layers.1.feed_forward.w3", "layers.1.attention.v"]
    assert plants == planted.plan(TINY) != planted.plan(TINY, seed=1)
    assert all(set(item.powers.values()) <= {2, 3, 4, 5, 6, 7} for item in plants)
    assert [len(item.powers) for item in plants] == [2, 4]


def test_columns_and_rows_take_opposite_powers(places):
    original, copy = (load_file(place / "transformer" / WEIGHT_FILE) for place in places)
    changed = {name for name in original if not torch.equal(original[name].float(), copy[name].float())}
    expected = set()
    for item in planted.plan(TINY):
        (consumer,) = consumers(item.fold)
        producer = item.fold.replace("attention.v", "attention.qkv")
        expected |= {f"{consumer}.weight", f"{producer}.weight_scale"}
        before, after = (tensors[f"{consumer}.weight"].float() for tensors in (original, copy))
        rows = len(original[f"{producer}.weight_scale"]) - before.shape[1]
        ratio = copy[f"{producer}.weight_scale"] / original[f"{producer}.weight_scale"]
        for channel in range(before.shape[1]):
            power = item.powers.get(channel, 0)
            assert ratio[rows + channel] == 2.0**power
            assert (after[:, channel] - before[:, channel] / 2**power).abs().max() <= (2.0**-10 if power else 0)
        assert (ratio[:rows] == 1).all()
    assert changed == expected


def test_codes_that_moved_are_counted():
    tensors = fp8_tensors(TINY, 0)
    name = "layers.1.feed_forward.w2.weight"
    before = tensors[name].float()
    (item, _) = planted.plan(TINY)
    powers = item.exponents(before.shape[1]).float()
    moved = planted.plant(tensors, (item,))
    assert moved == int((tensors[name].float() * 2**powers != before).sum()) < before.numel() / 100


def test_the_product_moves_far_less_than_fp8_itself_rounds(places):
    """w2 diag(g) w3 x, the path that planting touches, against its own rounding to e4m3 of 2^-4 at most."""
    original, copy = (open_source(place).branch("conditional") for place in places)
    x = torch.randn(50, TINY.hidden_size, generator=torch.Generator().manual_seed(1))

    def path(reader):
        w3, w2 = (reader.read(f"layers.1.feed_forward.{name}.weight").float() for name in ("w3", "w2"))
        return x @ w3.T @ w2.T

    error = (path(copy) - path(original)).norm() / path(original).norm()
    assert error < 2.0**-10


def test_inputs_of_w2_have_outliers_now(places):
    for branch in BRANCHES:
        w3 = [open_source(place).branch(branch).read("layers.1.feed_forward.w3.weight").float() for place in places]
        size = [weight.norm(dim=1).sort(descending=True).values for weight in w3]
        assert size[1][0] > 8 * size[0][0]
        assert size[1].median().item() == pytest.approx(size[0].median().item(), rel=0.02)


def test_it_is_declared_and_opens_as_a_source(places):
    _, copy = places
    assert open_source(copy).traits.name == "Tiny, outliers planted"
    declared = json.loads((copy / planted.DECLARATION).read_text(encoding="utf-8"))
    assert set(declared["planted"]) == set(BRANCHES)
    assert {path.name for path in copy.iterdir()} >= {COMPONENT_FOLDERS[branch] for branch in BRANCHES}
    with pytest.raises(RequestError, match="exists; name a new folder"):
        planted.write(copy, copy)
