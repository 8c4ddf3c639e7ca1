"""Recipes: what each Linear gets."""

from __future__ import annotations

from collections import Counter

import pytest

from ideogram_q8.architecture import IDEOGRAM4, linears
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.recipe import SCHEMES, Recipe, choose, explain
from tests.synthetic import TINY


def schemes(scheme, config):
    return Counter(layer.scheme for layer in choose(scheme, config).layers)


def test_ideogram_4():
    assert schemes("int8", IDEOGRAM4) == {"w8a8": 170, "bf16": 41}
    assert schemes("q8_0", IDEOGRAM4) == {"q8_0": 204, "bf16": 7}
    assert schemes("q4_k", IDEOGRAM4) == {"q4_k": 204, "bf16": 7}


def test_a_width_that_no_block_divides_stays_bf16():
    assert schemes("q8_0", TINY) == {"q8_0": 12, "bf16": 7}
    assert schemes("q4_k", TINY) == {"q4_k": 10, "bf16": 9}
    plans = {layer.linear: layer for layer in choose("q4_k", TINY).layers}
    assert plans["layers.0.adaln_modulation"].reason == "width 64 is no multiple of 256"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_linear_has_one_plan(scheme):
    assert [layer.linear for layer in choose(scheme, TINY).layers] == [linear.name for linear in linears(TINY)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_json_and_back(scheme):
    recipe = choose(scheme, TINY)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(recipe.to_json()).sha256 == recipe.sha256


def test_recipes_have_identities():
    assert len({choose(scheme, TINY).sha256 for scheme in SCHEMES}) == len(SCHEMES)


def test_unknown_schemes_are_refused():
    with pytest.raises(RequestError, match="unknown scheme 'q9_0'; expected one of int8, q8_0, q4_k"):
        choose("q9_0", TINY)
    text = choose("int8", TINY).to_json().replace('"w8a8"', '"w9a9"')
    with pytest.raises(ArtifactError, match="scheme is 'w9a9', expected one of 'w8a8'"):
        Recipe.from_json(text)


def test_the_table_has_a_row_for_each_kind():
    table = explain(choose("int8", TINY)).splitlines()
    assert len(table) == 1 + 7 + 6
    assert any(line.split()[:3] == ["layers.*.feed_forward.w2", "2", "w8a8"] for line in table)
