"""The paper's recipe: the spikiest Linears are kept, all folds that feed int8 are smoothed, the float model stays itself."""

from __future__ import annotations

import pytest

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4
from ideogram_q8.policies.paper import fragile_first, paper, proportional
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.folding import Folding, fold_points
from ideogram_q8.sources import open_source
from tests.policies.example import statistics_of
from tests.synthetic import TINY, write_source

SPIKY = {"layers.1.feed_forward.w2": 300.0, "layers.0.attention.o": 40.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def statistics(source):
    return statistics_of(source, SPIKY)


def kept(recipe, branch):
    return {plan.linear for plan in recipe.parts[branch].layers if plan.scheme == "bf16" and "layers." in plan.linear}


def test_the_spikiest_come_first(source, statistics):
    for branch in BRANCHES:
        order = fragile_first(statistics, source, branch)
        assert [name for name, _, _ in order[:2]] == ["layers.1.feed_forward.w2", "layers.0.attention.o"]
        peaks = [peak for _, peak, _ in order]
        assert peaks == sorted(peaks, reverse=True) and len(order) == 10
        name, peak, step = order[0]
        means = statistics.get(branch, name).step_peak_mean
        assert peak == means.max() == means[step - 1]


def test_as_many_are_kept_as_asked_for(source, statistics):
    modulation = {"layers.0.adaln_modulation", "layers.1.adaln_modulation"}
    for protect in (0, 2, 10):
        recipe = paper(statistics, source, protect=protect)
        order = fragile_first(statistics, source, "conditional")
        assert kept(recipe, "conditional") == modulation | {name for name, _, _ in order[:protect]}
        assert Recipe.from_json(recipe.to_json()) == recipe
        recipe.check(TINY)
        Folding(recipe.parts["unconditional"], TINY)


def test_the_published_share_is_kept_by_default(source, statistics):
    assert (proportional(17, IDEOGRAM4), proportional(8, IDEOGRAM4), proportional(17, TINY)) == (17, 8, 1)
    recipe = paper(statistics, source)
    assert recipe == paper(statistics, source, protect=1)
    assert recipe.variant == "int8-paper"


def test_reasons_name_rank_and_peak(source, statistics):
    plans = {plan.linear: plan for plan in paper(statistics, source, protect=2).parts["conditional"].layers}
    name, peak, step = fragile_first(statistics, source, "conditional")[0]
    assert plans[name].reason == f"protected: token peaks {peak:.1f} at step {step}, rank 1 of 10"
    assert plans["layers.0.feed_forward.w1"].reason.startswith("smoothed at alpha 0.5: token peaks ")


def test_folds_that_feed_no_int8_are_left_alone(source, statistics):
    every = set(fold_points(TINY))
    folds = {item.fold for item in paper(statistics, source, protect=2).parts["conditional"].smoothing}
    assert folds == every - {"layers.1.feed_forward.w3", "layers.0.attention.v"}
    assert paper(statistics, source, protect=10).parts["conditional"].smoothing == ()
    assert paper(statistics, source, alpha=None, protect=2).parts["conditional"].smoothing == ()


def test_nothing_asked_for_is_the_naive_recipe(source, statistics):
    naive = choose("int8", TINY)
    recipe = paper(statistics, source, alpha=None, protect=0)
    for branch in BRANCHES:
        pairs = zip(recipe.parts[branch].layers, naive.parts[branch].layers, strict=True)
        assert all((a.linear, a.scheme, a.rotation) == (b.linear, b.scheme, b.rotation) for a, b in pairs)


def test_bad_requests(source, statistics):
    with pytest.raises(RequestError, match=r"alpha is 1\.5; expected 0 to 1"):
        paper(statistics, source, alpha=1.5)
    with pytest.raises(RequestError, match="protect is 11; expected 0 to 10, the Linears of a branch that see tokens"):
        paper(statistics, source, protect=11)
    entries = {key: entry for key, entry in statistics.entries.items() if key[1] != "layers.0.attention.o"}
    with pytest.raises(ArtifactError, match=r"conditional layers\.0\.attention\.o is missing"):
        paper(type(statistics)(statistics.calibration, entries), source, protect=1)
