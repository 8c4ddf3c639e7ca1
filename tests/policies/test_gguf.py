"""The budgeted policy of GGUF files: within its size, and more bytes mean less error."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.policies.gguf import file_bytes, fit, gguf, measure, recipe_errors
from ideogram_q8.recipes import choose
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.recipes.rules import weigh
from tests.policies.example import statistics_of

SPIKY = {"layers.0.feed_forward.w2": 300.0}


@pytest.fixture(scope="module")
def importance(source):
    return Importance(statistics_of(source, SPIKY), "5" * 64)


@pytest.fixture(scope="module")
def groups(importance, source):
    return measure(importance, source)


def summed(importance, recipe, source) -> float:
    return sum(sum(errors.values()) for errors in recipe_errors(importance, recipe, source).values())


def test_files_are_within_the_size_and_near_it(source, importance, groups, tmp_path):
    smallest, largest = (file_bytes(choose(scheme, source.config), source) for scheme in ("q4_k_s", "q8_0"))
    for index, target in enumerate(range(smallest, largest, (largest - smallest) // 2)):
        recipe = weigh(fit(groups, importance, source, target), importance)
        manifest = quantize(source, recipe, tmp_path / str(index), importance=importance)
        size = sum(file.size for file in manifest.files)
        assert size <= file_bytes(recipe, source) <= target
        assert target - size < 100_000


def test_more_bytes_mean_less_error(source, importance, groups):
    smallest = file_bytes(choose("q4_k_s", source.config), source)
    recipes = [fit(groups, importance, source, smallest * share // 100) for share in (100, 120, 150, 180, 1000)]
    errors = [summed(importance, recipe, source) for recipe in recipes]
    assert all(more > less for more, less in pairwise(errors))
    assert errors[-1] == 0
    inside = {plan.scheme for branch in BRANCHES for plan in recipes[-1].parts[branch].layers}
    assert inside == {"bf16"}


def test_no_preset_of_the_size_errs_less(source, importance, groups):
    for scheme in ("q4_k_s", "q4_k_m", "q5_k_m", "q6_k"):
        preset = weigh(choose(scheme, source.config), importance)
        recipe = fit(groups, importance, source, file_bytes(preset, source))
        assert summed(importance, recipe, source) <= summed(importance, preset, source)


def test_the_default_is_the_size_of_q4_k_m(source, importance):
    recipe = gguf(importance, source)
    assert recipe.variant == "mixed-gguf"
    assert file_bytes(recipe, source) <= file_bytes(choose("q4_k_m", source.config), source)
    plans = [plan for branch in BRANCHES for plan in recipe.parts[branch].layers]
    assert all(plan.weighted for plan in plans if plan.scheme in ("iq4_nl", "q4_k", "q5_k", "q6_k"))
    assert all("iq4_nl" in plan.reason and "bf16 exact" in plan.reason for plan in plans if plan.linear.startswith("layers."))


def test_too_small_a_size_names_the_least(source, importance, groups):
    with pytest.raises(RequestError, match=r"files of 1e-06 GB are too small: GGUF takes 0\.00\d+ GB at least"):
        fit(groups, importance, source, 1000)
