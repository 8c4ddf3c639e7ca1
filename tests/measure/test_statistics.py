"""The statistics do what they promise, on data whose truth is known. Seeded, so that they always do or never."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.measure import statistics
from ideogram_q8.measure.statistics import captions_needed, compare, equivalence, holm, intervals, sign_flip

SAMPLES = 2000
CAPTIONS = 100
"""Coverage of 0.95 over 2000 samples has a standard error of 0.005: 1.5 points are three of them."""


def coverage(found: np.ndarray, truth: float) -> float:
    return float(np.mean((found[0] <= truth) & (truth <= found[1])))


def test_intervals_equal_scipys() -> None:
    data = np.random.default_rng(3).gamma(2.0, size=40)
    for ours, method in zip(intervals(data[:, None]), ("percentile", "bca"), strict=True):
        theirs = stats.bootstrap((data,), np.mean, n_resamples=50_000, method=method, rng=4).confidence_interval
        assert ours[:, 0] == pytest.approx((theirs.low, theirs.high), abs=0.02 * data.std())


def test_intervals_cover_normal_data() -> None:
    percentile, bca = intervals(np.random.default_rng(0).normal(0.3, 2.0, (CAPTIONS, SAMPLES)))
    assert coverage(percentile, 0.3) == pytest.approx(0.95, abs=0.015)
    assert coverage(bca, 0.3) == pytest.approx(0.95, abs=0.015)


def test_bca_covers_skewed_data() -> None:
    percentile, bca = intervals(np.random.default_rng(1).exponential(1.0, (CAPTIONS, SAMPLES)))
    assert coverage(bca, 1.0) == pytest.approx(0.95, abs=0.015)
    misses = [np.mean(found[1] < 1.0) - np.mean(found[0] > 1.0) for found in (percentile, bca)]
    assert abs(misses[1]) < abs(misses[0])  # its misses are spread over both sides more evenly


def test_a_sample_without_spread_is_its_mean() -> None:
    for found in intervals(np.full((7, 1), 0.1)):
        assert found[:, 0] == pytest.approx((0.1, 0.1), abs=1e-15)


def test_the_sign_flip_test_keeps_its_level_and_finds_a_planted_regression() -> None:
    random = np.random.default_rng(2)
    nothing = random.standard_t(3, (60, SAMPLES))
    assert np.mean(sign_flip(nothing) < 0.05) == pytest.approx(0.05, abs=0.015)
    planted = random.normal(-0.5, 1.0, (60, 200))
    assert np.mean(sign_flip(planted) < 0.05) > 0.9


def test_sign_flips_of_few_captions_are_all_counted() -> None:
    assert sign_flip(np.array([[1.0], [2.0], [3.0]]))[0] == pytest.approx(2 / 8, abs=0.02)
    assert sign_flip(np.zeros((5, 1)))[0] == 1.0


def test_holm_is_the_published_procedure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_holm_controls_the_chance_of_any_false_finding() -> None:
    random = np.random.default_rng(5)
    p = stats.norm.sf(np.abs(random.normal(size=(4000, 8)))) * 2
    p[:, :2] *= 1e-6  # two metrics do differ
    corrected = np.array([holm(list(row)) for row in p])
    assert np.mean((corrected[:, 2:] < 0.05).any(axis=1)) <= 0.05 + 0.01
    assert (corrected[:, :2] < 0.05).all()
    assert np.mean((p[:, 2:] < 0.05).any(axis=1)) > 0.2  # which is what it is for


def rejections(samples: np.ndarray, margin: float, largest: float | None = None) -> float:
    return float(np.mean([equivalence(sample, margin, largest) < 0.05 for sample in samples.T]))


def test_equivalence_keeps_its_level_at_the_margin_and_finds_equals() -> None:
    random = np.random.default_rng(6)
    assert rejections(random.normal(0.5, 1.0, (60, SAMPLES)), 0.5) <= 0.05 + 0.015
    assert rejections(random.normal(-0.5, 1.0, (60, SAMPLES)), 0.5) <= 0.05 + 0.015
    assert rejections(random.normal(0.0, 1.0, (60, 300)), 0.5) > 0.9


@pytest.mark.parametrize("backwards", [0.0, 0.01, 0.08, 0.2])
def test_equivalence_keeps_its_level_where_few_captions_differ(backwards: float) -> None:
    """300 captions, each read by one variant only with a share that makes the mean difference the margin exactly."""
    margin = 0.02
    chances = [backwards, 1 - 2 * backwards - margin, backwards + margin]
    samples = np.random.default_rng(7).choice([-1.0, 0.0, 1.0], p=chances, size=(300, SAMPLES))
    assert rejections(samples, margin, 1.0) <= 0.05 + 0.01


def test_no_difference_at_all_is_equality_with_enough_captions_only() -> None:
    assert equivalence(np.zeros(300), 0.02, 1.0) < 0.05
    assert equivalence(np.zeros(100), 0.02, 1.0) > 0.05


def test_the_captions_needed_give_the_promised_power() -> None:
    needed = captions_needed(1.0, 0.35)
    assert needed == 65
    found = sign_flip(np.random.default_rng(8).normal(0.35, 1.0, (needed, SAMPLES))) < 0.05
    assert found.mean() == pytest.approx(statistics.POWER, abs=0.03)


def test_a_pair_is_compared_by_the_captions_and_metrics_that_both_have() -> None:
    random = np.random.default_rng(9)
    base = random.normal(40, 3, 50)
    mine = {"psnr": list(base - 1 + random.normal(0, 0.5, 50)), "ocr_ned": [None, *[0.1] * 49], "lpips": [0.1] * 50}
    theirs = {"psnr": list(base), "ocr_ned": [0.5, *[0.1] * 49]}
    psnr, ned = compare("int8", "fp8", mine, theirs)
    assert (psnr.metric, ned.metric) == ("psnr", "ocr_ned")
    assert psnr.verdict == "worse" and psnr.difference == pytest.approx(-1, abs=0.2) and psnr.p_holm < 0.05
    assert psnr.bca[1] < 0 and psnr.margin == METRICS["psnr"].margin
    assert ned.n == 49 and ned.difference == 0
    assert ned.verdict == "undecided"  # 49 captions without a difference still allow one of 0.01


def test_few_captions_give_no_verdict() -> None:
    values = {"psnr": [40.0 + i for i in range(9)]}
    worse = {"psnr": [30.0 + i for i in range(9)]}
    assert compare("a", "b", worse, values)[0].verdict == "undecided"


def test_runs_of_different_length_are_refused() -> None:
    with pytest.raises(RequestError, match="psnr has values of 1 and of 2 captions"):
        compare("a", "b", {"psnr": [1.0]}, {"psnr": [1.0, 2.0]})
