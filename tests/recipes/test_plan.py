"""Recipes: which Linear gets which scheme, the JSON form, and a table that leaves nothing out."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, RequestError, printable
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, linears
from ideogram_q8.model.schemes import NAMED_SCHEMES, uses_more_bits
from ideogram_q8.numerics import smoothing
from ideogram_q8.recipes import LayerPlan, Part, Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import fold_points
from ideogram_q8.recipes.table import explain
from tests.synthetic import TINY


def schemes(scheme, config):
    (counts,) = {
        tuple(Counter(layer.scheme for layer in part.layers).items()) for part in choose(scheme, config).parts.values()
    }
    return dict(counts)


def test_ideogram_4():
    assert schemes("int8", IDEOGRAM4) == {"w8a8": 170, "bf16": 41}
    assert schemes("q8_0", IDEOGRAM4) == {"q8_0": 204, "bf16": 7}
    assert schemes("q6_k", IDEOGRAM4) == {"q6_k": 204, "bf16": 7}
    assert schemes("q5_k_m", IDEOGRAM4) == {"bf16": 7, "q6_k": 34 + 17, "q5_k": 3 * 34 + 17, "q8_0": 34}
    assert schemes("q4_k_m", IDEOGRAM4) == {"bf16": 7, "q5_k": 34, "q4_k": 3 * 34 + 17, "q6_k": 17, "q8_0": 34}
    assert schemes("q4_k_s", IDEOGRAM4) == {"q4_k": 204, "bf16": 7}


def test_the_half_with_more_bits_is_that_of_llama_cpp():
    """A value each: the ends, and every third between, as `use_more_bits` of llama-quant.cpp has them for 34 layers."""
    more = [block for block in range(34) if uses_more_bits(block, 34)]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29, 30, 31, 32, 33]
    plans = {plan.linear: plan.scheme for plan in choose("q4_k_m", IDEOGRAM4).parts["conditional"].layers}
    assert [block for block in range(34) if plans[f"layers.{block}.feed_forward.w2"] == "q6_k"] == more


@pytest.mark.parametrize(("scheme", "other"), [("q4_k_s", "q5_0"), ("q6_k", "q8_0"), ("q4_k_m", "q8_0"), ("q8_0", "q8_0")])
def test_a_width_that_256_does_not_divide_gets_what_llama_cpp_gives_it(scheme, other):
    plans = {layer.linear: layer for layer in choose(scheme, TINY).parts["conditional"].layers}
    plan = plans["layers.0.adaln_modulation"]
    assert plan.scheme == other
    assert plan.reason.startswith("width 64 is no multiple of 256; else") == (scheme in ("q4_k_s", "q6_k"))


def test_a_width_that_no_block_divides_stays_bf16():
    narrow = dataclasses.replace(TINY, adaln_dim=48)
    plans = {layer.linear: layer for layer in choose("q4_k_s", narrow).parts["conditional"].layers}
    assert plans["layers.0.adaln_modulation"].scheme == "bf16"
    assert plans["layers.0.adaln_modulation"].reason == "width 48 is no multiple of 32"


@pytest.mark.parametrize("scheme", NAMED_SCHEMES)
def test_every_linear_has_one_plan(scheme):
    for part in choose(scheme, TINY).parts.values():
        assert [layer.linear for layer in part.layers] == [linear.name for linear in linears(TINY)]


@st.composite
def int8_recipes(draw):
    """Any treatment of any Linear, for any reason."""
    treatments = st.sampled_from([("w8a8", 0), ("w8a8", 256), ("w8a8", 4), ("w8a16", 0), ("w8a16", 64), ("bf16", 0)])
    reasons = st.text(st.characters(codec="utf-8"), max_size=8)

    def plan(linear):
        scheme, rotation = draw(treatments)
        rotation = 0 if rotation and linear.in_features % rotation else rotation
        return LayerPlan(linear.name, scheme, rotation, draw(reasons))

    def part():
        folds = draw(st.lists(st.sampled_from(list(fold_points(TINY))), unique=True))
        smooth = [
            Smoothing(fold, smoothing.encode(torch.full((256,), draw(st.integers(-15, 15)), dtype=torch.int8)))
            for fold in folds
        ]
        return Part(tuple(plan(linear) for linear in linears(TINY)), tuple(smooth))

    return dataclasses.replace(choose("int8", TINY), policy="drawn", parts={branch: part() for branch in BRANCHES})


@given(recipe=int8_recipes())
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_json_and_back(recipe):
    recipe.check(TINY)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert (again.to_json(), again.sha256) == (recipe.to_json(), recipe.sha256)


@pytest.mark.parametrize("scheme", NAMED_SCHEMES)
def test_naive_recipes_come_back_from_json(scheme):
    recipe = choose(scheme, TINY)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_recipes_have_identities():
    assert len({choose(scheme, TINY).sha256 for scheme in NAMED_SCHEMES}) == len(NAMED_SCHEMES)


def test_unknown_schemes_are_refused():
    with pytest.raises(RequestError, match="unknown scheme 'q9_0'; expected one of int8, q8_0, q6_k, q5_k_m, q4_k_m, q4_k_s"):
        choose("q9_0", TINY)
    text = choose("int8", TINY).to_json().replace('"w8a8"', '"w9a9"')
    with pytest.raises(ArtifactError, match="scheme is 'w9a9', expected one of 'q8_0'"):
        Recipe.from_json(text)


@pytest.mark.parametrize("scheme", ["foo", "../../zz", "w8a8", ""])
def test_a_file_cannot_name_a_scheme_of_its_own(scheme):
    text = choose("int8", TINY).to_json().replace('"scheme": "int8"', f'"scheme": "{scheme}"', 1)
    with pytest.raises(
        ArtifactError,
        match=f"recipe: scheme is '{re.escape(scheme)}', expected one of int8, q8_0, q6_k, q5_k_m, q4_k_m, q4_k_s",
    ):
        Recipe.from_json(text)


def test_half_a_surrogate_pair_is_refused():
    text = choose("int8", TINY).to_json().replace("outside the blocks", "outside \\ud800", 1)
    with pytest.raises(ArtifactError, match="half of a UTF-16 surrogate pair"):
        Recipe.from_json(text)


@given(data=st.data())
@settings(max_examples=60)
def test_damaged_recipes_are_refused_or_understood(data):
    damaged = bytearray(choose("int8", TINY).to_json().encode())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IdeogramQ8Error):
        recipe = Recipe.from_json(bytes(damaged).decode("utf-8", "replace"))
        assert all(line.isprintable() for line in explain(recipe).splitlines())
        assert Recipe.from_json(recipe.to_json()).sha256 == recipe.sha256
        recipe.check(TINY)


# ---- the table ----


@pytest.mark.parametrize("block", ["99999999999", "9" * 5000, "-1", "٣", "1_0"])
def test_block_numbers_of_a_stranger_do_no_harm(block):
    recipe = choose("int8", TINY)
    part = recipe.parts["conditional"]
    odd = dataclasses.replace(part, layers=(*part.layers, LayerPlan(f"layers.{block}.attention.o", "w8a8", 0, "\x1b[2J\nodd")))
    table = explain(dataclasses.replace(recipe, parts=dict.fromkeys(BRANCHES, odd)))
    assert table.splitlines()[-1].split() == [f"layers.{block}.attention.o", "1", "w8a8", r"\x1b[2J\nodd"]
    assert "layers.*.attention.o" in table  # the table of the others is as it was


def explained(table: str) -> dict[str, tuple[str, str]]:
    """Linear -> (treatment, reason), read back from the rows of one part's table."""
    _, _, header, *rows = table.splitlines()
    starts = [re.search(rf"\b{word}\b", header).start() for word in ("scheme", "reason")]
    last = max(int(name.split(".")[1]) for name in (linear.name for linear in linears(TINY)) if name.startswith("layers"))
    found = {}
    for row in rows:
        place, count = row[: starts[0]].split()
        names = [place]
        if place.startswith("layers."):
            blocks, kind = place.removeprefix("layers.").split(".", 1)
            ranges = [f"0-{last}"] if blocks == "*" else blocks.split(",")
            ends = [(int(text.split("-")[0]), int(text.split("-")[-1])) for text in ranges]
            names = [f"layers.{block}.{kind}" for first, final in ends for block in range(first, final + 1)]
        assert len(names) == int(count)
        for name in names:
            assert name not in found
            found[name] = (row[starts[0] : starts[1]].strip(), row[starts[1] :].strip())
    return found


@given(recipe=int8_recipes())
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_every_choice_is_explained(recipe):
    tables = re.split(r"\n\n(?=int8-drawn)", explain(recipe))
    if len(tables) == 1:
        tables *= 2
    for branch, table in zip(BRANCHES, tables, strict=True):
        found = explained(table)
        assert sorted(found) == sorted(linear.name for linear in linears(TINY))
        for layer in recipe.parts[branch].layers:
            treatment, reason = found[layer.linear]
            assert treatment.split()[0] == layer.scheme and reason == printable(layer.reason).strip()
            assert (f"rotated by {layer.rotation}" in treatment) == (layer.rotation > 0)


def test_equal_parts_and_blocks_share_a_table_and_a_row():
    table = explain(choose("int8", TINY)).splitlines()
    assert table[0] == "int8, conditional and unconditional: 10 w8a8, 9 bf16"
    assert len(table) == 2 + 1 + 7 + 6
    assert any(line.split()[:3] == ["layers.*.feed_forward.w2", "2", "w8a8"] for line in table)


def test_smoothed_linears_are_said_to_be():
    recipe = choose("int8", TINY)
    text = smoothing.encode(torch.ones(256, dtype=torch.int8))
    part = dataclasses.replace(recipe.parts["conditional"], smoothing=(Smoothing("layers.1.ffn_norm1", text),))
    table = explain(dataclasses.replace(recipe, parts=dict(recipe.parts) | {"conditional": part}))
    assert table.startswith("int8, conditional: 10 w8a8, 9 bf16; 2 smoothed\n")
    assert re.search(r"layers\.1\.feed_forward\.w3 +1 +w8a8 smoothed  ", table)
    assert re.search(r"layers\.0\.feed_forward\.w3 +1 +w8a8  ", table)
