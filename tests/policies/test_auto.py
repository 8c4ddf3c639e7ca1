"""The budgeted policy: within its budget, never worse than naive, and every choice is the one that its figures ask for."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.conversion import convert
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.policies.auto import auto, fit, measure, naive_budget
from ideogram_q8.policies.measurement import recipe_errors, stored_bytes
from ideogram_q8.policies.paper import paper
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.sources import open_source, open_text_encoder
from tests.policies.example import statistics_of
from tests.synthetic import write_source
from tests.text_encoders import write_text_encoder

SPIKY = {"layers.0.feed_forward.w2": 300.0, "layers.1.attention.o": 40.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def statistics(source):
    return statistics_of(source, SPIKY)


@pytest.fixture(scope="module")
def groups(source, statistics):
    return measure(statistics, source)


@pytest.fixture(scope="module")
def with_weight_only(source, statistics):
    return measure(statistics, source, weight_only=True)


def summed(recipe, statistics, source) -> float:
    return sum(sum(errors.values()) for errors in recipe_errors(recipe, statistics, source).values())


def test_no_budget_is_exceeded_and_more_bytes_mean_less_error(source, statistics, groups):
    naive = stored_bytes(choose("int8", source.config), source)
    largest = naive + 2 * 10**6
    errors = []
    for budget in range(naive, largest, 150_000):
        recipe = fit(groups, source, budget)
        assert stored_bytes(recipe, source) <= budget
        errors.append(summed(recipe, statistics, source))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[0]


def test_never_worse_than_naive_at_its_size(source):
    for seed in range(3):
        statistics = statistics_of(source, SPIKY if seed else {}, seed)
        naive = choose("int8", source.config)
        recipe = auto(statistics, source, stored_bytes(naive, source))
        assert summed(recipe, statistics, source) <= summed(naive, statistics, source)


def test_the_default_budget_is_the_size_of_the_papers_recipe(source, statistics, groups):
    budget = stored_bytes(paper(statistics, source), source)
    assert auto(statistics, source) == fit(groups, source, budget)
    assert stored_bytes(auto(statistics, source), source) <= budget


@pytest.mark.parametrize("weight_only", [False, True])
def test_the_least_budget_is_named_and_works(source, groups, with_weight_only, weight_only):
    groups = with_weight_only if weight_only else groups
    with pytest.raises(RequestError, match=r"a budget of 0\.001 GB is too small: int8 takes 0\.0\d+ GB at least") as refusal:
        fit(groups, source, 1_000_000)
    least = round(float(str(refusal.value).split()[-4]) * 1e9)
    recipe = fit(groups, source, least + 10_000)  # the message rounds to six digits
    plans = [plan for part in recipe.parts.values() for plan in part.layers if "layers" in plan.linear]
    assert {plan.scheme for plan in plans if not plan.linear.endswith("adaln_modulation")} == {"w8a8"}
    assert {plan.scheme for plan in plans if plan.linear.endswith("adaln_modulation")} == {"w8a16" if weight_only else "bf16"}


def test_outliers_are_treated_and_the_reason_says_what_was_compared(source, statistics, groups):
    recipe = fit(groups, source, stored_bytes(choose("int8", source.config), source))
    part = recipe.parts["conditional"]
    plan = next(plan for plan in part.layers if plan.linear == "layers.0.feed_forward.w2")
    smoothed = {item.fold for item in part.smoothing}
    assert plan.scheme == "bf16" or plan.rotation or "layers.0.feed_forward.w3" in smoothed
    assert all(word in plan.reason for word in ("plain ", "smoothed ", "rotated ", "dB"))


def test_reasons_hold_the_measured_error(source, statistics, groups):
    recipe = fit(groups, source, stored_bytes(choose("int8", source.config), source) + 300_000)
    errors = recipe_errors(recipe, statistics, source)
    for branch in BRANCHES:
        for plan in recipe.parts[branch].layers:
            if plan.scheme == "w8a8":
                decibels = -10 * torch.tensor(errors[branch][plan.linear]).log10().item()
                assert f": {decibels:.1f} dB; plain" in plan.reason


def test_weight_only_is_for_those_who_ask(source, statistics, groups):
    """ComfyUI computes such Linears as W8A8."""
    naive = stored_bytes(choose("int8", source.config), source)
    for budget in (naive, naive + 300_000):
        schemes = {plan.scheme for part in fit(groups, source, budget).parts.values() for plan in part.layers}
        assert schemes <= {"w8a8", "bf16"}
    asked = auto(statistics, source, naive, weight_only=True)
    assert any(plan.scheme == "w8a16" for part in asked.parts.values() for plan in part.layers)


def test_weight_only_is_for_modulation_alone(source, with_weight_only):
    recipe = fit(with_weight_only, source, stored_bytes(choose("int8", source.config), source))
    weight_only = {plan.linear for part in recipe.parts.values() for plan in part.layers if plan.scheme == "w8a16"}
    assert weight_only
    assert all(name.endswith("adaln_modulation") for name in weight_only)


def test_the_naive_budget_has_room_for_markers_of_rotation_and_no_more(source):
    naive = stored_bytes(choose("int8", source.config), source)
    assert 0 < naive_budget(source) - naive < 100 * len(choose("int8", source.config).parts["conditional"].layers) * 2


def test_the_recipe_is_one_that_quantize_takes(source, groups, tmp_path):
    recipe = fit(groups, source, stored_bytes(choose("int8", source.config), source))
    assert Recipe.from_json(recipe.to_json()) == recipe
    manifest = quantize(source, recipe, tmp_path / "out")
    assert manifest.variant == "int8-auto"
    size = sum(file.size for file in manifest.files)
    assert 0 <= size - stored_bytes(recipe, source) < 100_000


def test_without_rotation_it_can_be_a_diffusers_folder(source, statistics, tmp_path):
    """And what is left to choose from is the same: it is a budgeted recipe like the other, only not better."""
    naive = naive_budget(source)
    free, plain = auto(statistics, source, naive), auto(statistics, source, naive, rotate=False)
    assert any(plan.rotation for part in free.parts.values() for plan in part.layers)
    assert not any(plan.rotation or "rotated" in plan.reason for part in plain.parts.values() for plan in part.layers)
    assert stored_bytes(plain, source) <= naive
    assert summed(free, statistics, source) <= summed(plain, statistics, source)
    assert summed(plain, statistics, source) <= summed(choose("int8", source.config), statistics, source)
    quantize(source, plain, tmp_path / "single")
    convert(tmp_path / "single", "diffusers", tmp_path / "folder")
    assert open_artifact(tmp_path / "folder").recipe == plain


ENCODER_SPIKY = {"language_model.layers.1.mlp.down_proj": 300.0, "language_model.layers.0.self_attn.o_proj": 100.0}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return open_text_encoder(write_text_encoder(tmp_path_factory.mktemp("encoder")))


def test_the_text_encoder_is_a_part_like_any_other(encoder, tmp_path):
    statistics = statistics_of(encoder, ENCODER_SPIKY)
    naive = choose("int8", encoder.config)
    before = stored_bytes(naive, encoder)
    groups = measure(statistics, encoder)
    errors = []
    for budget in range(before, before + 160_000, 20_000):
        recipe = fit(groups, encoder, budget)
        assert stored_bytes(recipe, encoder) <= budget
        errors.append(summed(recipe, statistics, encoder))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[0] < summed(naive, statistics, encoder)
    recipe = fit(groups, encoder, before)
    assert {"language_model.layers.1.mlp.up_proj", "language_model.layers.0.self_attn.v_proj"} <= {
        item.fold for item in recipe.parts["text_encoder"].smoothing
    }
    vision = [plan for plan in recipe.parts["text_encoder"].layers if plan.linear.startswith("visual.")]
    assert vision and {plan.scheme for plan in vision} == {"bf16"}
    assert quantize(encoder, recipe, tmp_path / "out").variant == "int8-auto"


def test_a_text_encoders_reasons_hold_the_error_of_what_is_folded(encoder):
    """A channel of v_proj is several columns of o_proj: what was measured is what `recipe_errors` unfolds from the recipe."""
    statistics = statistics_of(encoder, ENCODER_SPIKY)
    recipe = fit(measure(statistics, encoder), encoder, stored_bytes(choose("int8", encoder.config), encoder))
    errors = recipe_errors(recipe, statistics, encoder)["text_encoder"]
    smoothed = [plan for plan in recipe.parts["text_encoder"].layers if plan.reason.startswith("smoothed")]
    assert any(plan.linear.endswith("o_proj") for plan in smoothed)
    for plan in smoothed:
        assert f": {-10 * torch.tensor(errors[plan.linear]).log10().item():.1f} dB; plain" in plan.reason
