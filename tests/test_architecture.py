"""The description of Ideogram 4 against published counts and against diffusers' own class."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch

from ideogram_q8.errors import RequestError, SourceError
from ideogram_q8.model.architecture import (
    BRANCHES,
    IDEOGRAM4,
    IDEOGRAM4_TRAITS,
    PRESETS,
    TEXT_TAPS,
    Traits,
    TransformerConfig,
    check_size,
    custom_preset,
    diffusers_names,
    linears,
    parse_size,
    preset,
    schedule_mean,
    tensor_shapes,
)

SMALL = TransformerConfig(16, 2, 32, 8, 512, 64, 104, 100, (6, 5, 5), 1e-5)


def test_ideogram_4_has_the_published_counts():
    shapes = tensor_shapes(IDEOGRAM4)
    assert len(shapes) == 458
    assert sum(map(math.prod, shapes.values())) == 9_279_288_448
    assert len(linears(IDEOGRAM4)) == 211
    assert sum(linear.out_features * linear.in_features for linear in linears(IDEOGRAM4)) == 9_277_931_520
    assert IDEOGRAM4.llm_features_dim == len(TEXT_TAPS) * 4096


def test_linears_are_grouped_by_what_they_see():
    kinds = Counter((linear.in_block, linear.sees_tokens) for linear in linears(IDEOGRAM4))
    assert kinds == {(False, False): 7, (True, False): 34, (True, True): 170}
    assert {linear.kind for linear in linears(SMALL) if linear.sees_tokens} == {
        "attention.qkv",
        "attention.o",
        "feed_forward.w1",
        "feed_forward.w2",
        "feed_forward.w3",
    }


def test_names_and_shapes_are_those_of_diffusers():
    from diffusers import Ideogram4Transformer2DModel

    with torch.device("meta"):
        module = Ideogram4Transformer2DModel.from_config(SMALL.to_json())
    ours = {}
    for name, shape in tensor_shapes(SMALL).items():
        parts = diffusers_names(name)
        ours |= {part: (shape[0] // len(parts), *shape[1:]) for part in parts}
    assert ours == {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


OFFICIAL = {"num_attention_heads": "num_heads", "adaln_dim": "adanln_dim"}


def official(config: TransformerConfig) -> dict[str, object]:
    """A config.json under the names of the official code."""
    values = {OFFICIAL.get(name, name): value for name, value in config.to_json().items()}
    del values["attention_head_dim"]
    return values | {"emb_dim": config.hidden_size}


@pytest.mark.parametrize("config", [IDEOGRAM4, SMALL])
def test_the_official_names_of_a_config_mean_the_same(config):
    assert TransformerConfig.from_json(official(config)) == config
    assert TransformerConfig.from_json(official(config) | config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_dim": 4607}, "emb_dim is 4607, expected a multiple of num_heads, which is 18"),
        ({"emb_dim": None}, "emb_dim is None, expected a multiple"),
        ({"num_heads": 0}, "expected a multiple of num_heads, which is 0"),
        ({"num_heads": "18"}, "expected a multiple of num_heads, which is '18'"),
        ({"num_attention_heads": 16}, "num_heads is 18 and num_attention_heads 16; expected one of them"),
        ({"attention_head_dim": 128}, "emb_dim is 4608 of 18 heads and attention_head_dim 128; expected 256"),
        ({"adaln_dim": 64}, "adanln_dim is 512 and adaln_dim 64; expected one of them"),
    ],
)
def test_two_names_of_a_config_must_agree(changes, message):
    with pytest.raises(SourceError, match=message):
        TransformerConfig.from_json(official(IDEOGRAM4) | changes)


def test_a_config_survives_json():
    assert TransformerConfig.from_json(IDEOGRAM4.to_json()) == IDEOGRAM4


def test_the_official_spelling_of_a_dimension_is_read():
    values = SMALL.to_json()
    values["adanln_dim"] = values.pop("adaln_dim")
    assert TransformerConfig.from_json(values) == SMALL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 0),
        ("num_layers", True),
        ("in_channels", "128"),
        ("rope_theta", None),
        ("mrope_section", [1, 2]),
        ("norm_eps", 5),
    ],
)
def test_a_wrong_dimension_is_named(name: str, value: object):
    with pytest.raises(SourceError, match=f"config.json: {name} is "):
        TransformerConfig.from_json({**SMALL.to_json(), name: value})


def test_presets_are_the_official_ones():
    assert {name: (p.steps, p.final_steps, p.mu, p.std) for name, p in PRESETS.items()} == {
        "turbo-12": (12, 1, 0.5, 1.75),
        "default-20": (20, 2, 0.0, 1.75),
        "quality-48": (48, 3, 0.0, 1.5),
        "instant-8": (8, 0, 0.0, 1.75),
        "fast-20": (20, 0, 0.0, 1.75),
    }
    assert preset("default-20").guidance(IDEOGRAM4_TRAITS) == (7.0,) * 18 + (3.0,) * 2
    assert preset("fast-20").guidance(IDEOGRAM4_TRAITS) == (1.0,) * 20
    with pytest.raises(RequestError, match="unknown preset 'fast'; expected one of turbo-12, default-20, quality-48"):
        preset("fast")


def test_guidance_of_one_needs_one_transformer():
    for name in ("instant-8", "fast-20", "custom-12-g1"):
        assert preset(name).branches(IDEOGRAM4_TRAITS) == ("conditional",)
    for name in ("turbo-12", "default-20", "quality-48", "custom-12-g1.1"):
        assert preset(name).branches(IDEOGRAM4_TRAITS) == BRANCHES
    distilled = dataclasses.replace(
        IDEOGRAM4_TRAITS, guidance=(1.0, 1.0)
    )  # the main guidance of such a checkpoint is 1 in any preset
    assert preset("default-20").branches(distilled) == ("conditional",)


def test_custom_presets_are_their_names():
    made = custom_preset(30, 4.5)
    assert made.name == "custom-30-g4.5" and preset(made.name) == made
    assert made.guidance(IDEOGRAM4_TRAITS) == (4.5,) * 27 + (3.0,) * 3
    assert preset("custom-20-g7").guidance(IDEOGRAM4_TRAITS) == preset("default-20").guidance(IDEOGRAM4_TRAITS)
    assert preset("custom-2-g1").guidance(IDEOGRAM4_TRAITS) == (1.0, 1.0)
    for name in (
        "custom-1-g7",
        "custom-201-g7",
        "custom-20-g0.5",
        "custom-20-g21",
        "custom-20-g-1",
        "custom--2-g3",
        "custom-20-g7e1",
    ):
        with pytest.raises(RequestError):
            preset(name)


def test_the_schedule_moves_with_resolution():
    assert schedule_mean(preset("turbo-12"), 512, 512) == 0.5
    assert schedule_mean(preset("turbo-12"), 1024, 1024) == pytest.approx(0.5 + math.log(2))


@pytest.mark.parametrize("size", [(256, 256), (2048, 2048), (1600, 400), (1536, 256)])
def test_good_sizes(size: tuple[int, int]):
    check_size(*size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 1024), "width is 1000; Ideogram 4 paints 256 to 2048 pixels a side in multiples of 16: use 992"),
        ((1024, 2064), "height is 2064; .*: use 2048"),
        ((16, 256), "width is 16; .*: use 256"),
        ((2048, 256), "2048x256 is longer than 6:1"),
    ],
)
def test_bad_sizes_say_what_to_use(size: tuple[int, int], expected: str):
    with pytest.raises(RequestError, match=expected):
        check_size(*size)


def test_traits_set_the_range():
    tiny = Traits("Tiny", 64, 128, (64, 64), (3.0, 2.0))
    check_size(64, 128, tiny)
    with pytest.raises(RequestError, match="Tiny paints 64 to 128"):
        check_size(256, 256, tiny)


def test_sizes_are_written_width_first():
    assert (
        parse_size(" 1024x768 ") == parse_size("1024×768") == parse_size("1024 X 768") == parse_size("1024*768") == (1024, 768)
    )
    assert parse_size("1024") == parse_size(" 1024 ") == (1024, 1024)
    for text in ("", "x", "1024x", "x768", "1024 768", "٣x٣", "-1x5", "1024x768x3", "1e3x16", "123456x16"):
        with pytest.raises(RequestError, match="expected WIDTHxHEIGHT"):
            parse_size(text)
