"""Types of Linears by their names."""

from __future__ import annotations

import pytest

from ideogram_q8.builds.layout import file_name
from ideogram_q8.errors import RequestError
from ideogram_q8.model.schemes import PRESETS
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.rules import apply_rules, parse
from tests.synthetic import TINY


def types(recipe: Recipe) -> dict[str, str]:
    assert recipe.parts["conditional"] == recipe.parts["unconditional"]
    return {plan.linear: plan.scheme for plan in recipe.parts["conditional"].layers}


def test_the_last_pattern_that_matches_counts_and_nothing_else_changes():
    before = types(choose("q4_k_m", TINY))
    rules = [parse(text) for text in ("layers.*.attention.o=q6_k", "layers.1.attention.*=iq4_nl", "layers.1.attention.o=f16")]
    recipe = apply_rules(choose("q4_k_m", TINY), rules, TINY)
    changed = {"layers.0.attention.o": "q6_k", "layers.1.attention.qkv": "iq4_nl", "layers.1.attention.o": "f16"}
    assert types(recipe) == before | changed
    assert recipe.variant == "q4_k_m-rules"
    reasons = {plan.linear: plan.reason for plan in recipe.parts["conditional"].layers}
    assert reasons["layers.1.attention.o"] == "rule layers.1.attention.o=f16"
    recipe.check(TINY)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("text", ["layers.*", "=q8_0", "layers.*=q3_k", "layers.*=w8a8", "layers.*=Q8_0_M"])
def test_a_rule_is_a_pattern_and_a_type(text):
    with pytest.raises(RequestError, match="expected PATTERN=TYPE, TYPE one of q8_0, q6_k, .*f32"):
        parse(text)


@pytest.mark.parametrize(
    ("scheme", "rule", "message"),
    [
        ("q8_0", "layers.*.attention.to_q=q8_0", "matches no Linear; expected a pattern for names such as layers"),
        (
            "q8_0",
            "layers.*.adaln_modulation=q4_k",
            "layers.0.adaln_modulation has 64 inputs, no multiple of q4_k's 256; name another",
        ),
        ("int8", "layers.*=q8_0", "the scheme is int8; expected one of q8_0, q6_k, q5_k_m, q4_k_m, q4_k_s"),
    ],
)
def test_rules_that_fit_nothing_are_refused(scheme, rule, message):
    with pytest.raises(RequestError, match=message):
        apply_rules(choose(scheme, TINY), [parse(rule)], TINY)


@pytest.mark.parametrize("scheme", PRESETS)
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_a_file_is_not_named_after_a_preset_of_which_nothing_is_left(scheme, kind):
    recipe = apply_rules(choose(scheme, TINY), [("layers.*", kind)], TINY)
    assert (recipe.scheme, recipe.variant) == ("mixed", "mixed-rules")
    assert file_name(recipe.scheme, "conditional") == "ideogram4-MIXED.gguf"
    recipe.check(TINY)


def test_a_file_of_which_most_is_the_presets_keeps_its_name():
    rules = [("layers.*.attention.o", "f16"), ("layers.*.adaln_modulation", "f32"), ("*_proj", "f32")]
    assert apply_rules(choose("q4_k_s", TINY), rules, TINY).variant == "q4_k_s-rules"
    same = apply_rules(choose("q8_0", TINY), [("layers.*.attention.*", "q8_0")], TINY)
    assert same.scheme == "q8_0"
