"""Folding is exact: whatever the exponents, the float transformer answers with the same bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import IMAGE_POSITION_OFFSET
from ideogram_q8.numerics import int8, smoothing
from ideogram_q8.recipes import Part, Smoothing, fold_of
from ideogram_q8.recipes.folding import Folding, consumers, fold_points
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.sources import BranchReader, open_source
from tests.folded import Folded
from tests.synthetic import TINY, write_source

POINTS = fold_points(TINY)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source"))).branch("conditional")


def folding_of(exponents: dict[str, torch.Tensor]) -> Folding:
    return Folding(Part((), tuple(Smoothing(fold, smoothing.encode(e)) for fold, e in exponents.items())), TINY)


def random_exponents(seed: int, largest: int, folds=POINTS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f: torch.randint(-largest, largest + 1, (POINTS[f].width,), generator=generator).to(torch.int8) for f in folds}


@torch.no_grad()
def answer(reader: BranchReader, folding: Folding, dtype: torch.dtype) -> torch.Tensor:
    """The velocity of two pictures of 3x4 tokens with 5 text tokens each."""
    transformer = build_transformer(Folded(reader, folding), TINY, torch.device("cpu"), dtype)
    generator = torch.Generator().manual_seed(7)
    text, grid = 5, (3, 4)
    tokens = text + grid[0] * grid[1]
    image = torch.cartesian_prod(torch.arange(1), torch.arange(grid[0]), torch.arange(grid[1])) + IMAGE_POSITION_OFFSET
    positions = torch.cat([torch.arange(text)[:, None].expand(-1, 3), image])
    indicator = torch.tensor([3] * text + [2] * (tokens - text))
    return transformer(
        hidden_states=torch.randn(2, tokens, TINY.in_channels, generator=generator).to(dtype),
        timestep=torch.tensor([0.3, 0.8], dtype=dtype),
        encoder_hidden_states=torch.randn(2, tokens, TINY.llm_features_dim, generator=generator).to(dtype),
        position_ids=positions.expand(2, -1, -1),
        segment_ids=torch.ones(2, tokens, dtype=torch.long),
        indicator=indicator.expand(2, -1),
        return_dict=False,
    )[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("largest", [1, 6, 15])
def test_the_folded_transformer_answers_with_the_same_bits(reader, dtype, largest):
    plain = answer(reader, folding_of({}), dtype)
    folded = answer(reader, folding_of(random_exponents(largest, largest)), dtype)
    assert plain.isfinite().all() and plain.abs().amax() > 0
    assert torch.equal(folded, plain)


@pytest.mark.parametrize("fold", [name for name in POINTS if name.startswith("layers.1.")])
def test_each_fold_point_does_so_alone_and_half_of_it_does_not(reader, fold):
    plain = answer(reader, folding_of({}), torch.float32)
    exponents = random_exponents(3, 4, [fold])
    assert torch.equal(answer(reader, folding_of(exponents), torch.float32), plain)

    class Half(Folding):
        def apply(self, name, tensor):
            return super().apply(name, tensor) if name.removesuffix(".weight") in consumers(fold) else tensor

    half = Half(Part((), tuple(Smoothing(f, smoothing.encode(e)) for f, e in exponents.items())), TINY)
    assert not torch.equal(answer(reader, half, torch.float32), plain)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_folding_back_gives_every_tensor_again(reader, seed):
    exponents = random_exponents(seed, 15)
    there, back = folding_of(exponents), folding_of({fold: -e for fold, e in exponents.items()})
    for name in reader.names:
        tensor = reader.read(name)
        assert torch.equal(back.apply(name, there.apply(name, tensor)), tensor)


def test_codes_of_a_producer_do_not_change(reader):
    """A fold's rows are rows of int8 weights with a scale each, so that only the scale takes the power of two."""
    for fold, name in {
        "layers.0.attention.v": "layers.0.attention.qkv",
        "layers.0.feed_forward.w3": "layers.0.feed_forward.w3",
    }.items():
        exponents = random_exponents(5, 15, [fold])
        weight = reader.read(f"{name}.weight")
        codes, scale = int8.quantize_per_channel(weight)
        folded_codes, folded_scale = int8.quantize_per_channel(folding_of(exponents).apply(f"{name}.weight", weight))
        powers = torch.zeros(len(weight))
        powers[-len(exponents[fold]) :] = exponents[fold].float()
        assert torch.equal(folded_codes, codes)
        assert torch.equal(folded_scale, scale * 2.0 ** -powers[:, None])


def test_what_is_no_part_of_a_fold_stays_the_same_tensor(reader):
    folding = folding_of(random_exponents(1, 15))
    for name in ("input_proj.weight", "layers.0.attention_norm2.weight", "layers.1.adaln_modulation.weight", "adaln_proj.bias"):
        tensor = reader.read(name)
        assert folding.apply(name, tensor) is tensor


def test_fold_points_and_consumers_agree():
    for fold in POINTS:
        assert consumers(fold)
        assert all(fold_of(linear) == fold for linear in consumers(fold))
    assert consumers("layers.1.ffn_norm1") == ("layers.1.feed_forward.w1", "layers.1.feed_forward.w3")
    with pytest.raises(ValueError, match="'input_proj' is no fold point"):
        consumers("input_proj")


def test_foreign_smoothing_is_refused():
    text = smoothing.encode(torch.ones(256, dtype=torch.int8))
    with pytest.raises(ArtifactError, match=r"smoothing 'layers\.2\.ffn_norm1' is no fold point of this model"):
        Folding(Part((), (Smoothing("layers.2.ffn_norm1", text),)), TINY)
    with pytest.raises(ArtifactError, match=r"smoothing 'layers\.1\.ffn_norm1' is given twice"):
        Folding(Part((), (Smoothing("layers.1.ffn_norm1", text),) * 2), TINY)
    with pytest.raises(ArtifactError, match="expected 256 and no more"):
        Folding(Part((), (Smoothing("layers.1.ffn_norm1", smoothing.encode(torch.ones(9, dtype=torch.int8))),)), TINY)
