"""What a difference between two variants is worth: paired per-caption differences, intervals, corrected tests, equivalence.

Both variants paint the same captions from the same seeds, so a caption is its own control and only differences count.

- Intervals are 95 % bootstraps over captions (10,000 resamples, fixed seed): percentile and BCa (Efron 1987, JASA 82:171). The
  resamples are one matrix of counts shared by all metrics, so that a bootstrap is one matrix product.
- A difference is tested by flipping signs (Fisher 1935): if the two variants could be exchanged, so could each difference's sign. It
  needs no normality, which shares of words read do not have. Holm (1979) corrects over the metrics of a pair.
- "Equal" is said by two one-sided tests (Schuirmann 1987) against the smallest difference of interest, and by nothing else. Where few
  captions differ at all, the t distribution is wrong by orders of magnitude; there an exact binomial bound takes its place.

What this module does not know: how values came about, reports on disk.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special, stats

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.metrics import METRICS, Metric
from ideogram_q8.formats.report import Comparison, Measured, Verdict

RESAMPLES = 10_000
LEVEL = 0.95
ALPHA = 1 - LEVEL
POWER = 0.8
FEWEST = 10
"""Captions below which no verdict is given."""
SPARSE = 30
"""Captions that differ, below which the t distribution is not trusted for a bounded metric."""
INTERVALS = f"95 % BCa bootstrap over captions, {RESAMPLES:,} resamples"

Values = Sequence[float | None]
"""One value a caption, in the suite's order; None where the metric does not apply to the caption."""


# ---- intervals ----


@functools.lru_cache(maxsize=4)
def _resamples(n: int) -> np.ndarray:
    """float64 [RESAMPLES, n]: how often each of n captions is drawn, divided by n."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile and BCa intervals of the means of k samples.

    Args:
        values: float [n, k], n observations of each.

    Returns:
        Two float64 [2, k], low and high. A sample without spread has its mean for both ends.
    """
    data = np.asarray(values, dtype=np.float64)
    mean = data.mean(axis=0)
    resampled = _resamples(len(data)) @ data
    below = (resampled < mean).mean(axis=0) + (resampled == mean).mean(axis=0) / 2
    resampled.sort(axis=0)
    tails = np.array([ALPHA / 2, 1 - ALPHA / 2])[:, None]
    centred = data - mean
    spread = np.square(centred).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = np.where(spread > 0, (centred**3).sum(axis=0) / (6 * spread**1.5), 0.0)
    bias = special.ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    moved = bias + special.ndtri(tails)
    corrected = special.ndtr(bias + moved / (1 - skew * moved))
    flat = np.ptp(data, axis=0) == 0
    found = (_quantiles(resampled, np.broadcast_to(tails, corrected.shape)), _quantiles(resampled, corrected))
    return np.where(flat, mean, found[0]), np.where(flat, mean, found[1])


def _quantiles(ordered: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Linear interpolation in each column of `ordered` [m, k] at `shares` [2, k]."""
    place = shares * (len(ordered) - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    return ordered[low, columns] + (place - low) * (ordered[high, columns] - ordered[low, columns])


def measured(values: Sequence[float], unit: str, largest: float | None = None) -> Measured:
    """Mean and its BCa interval; of values of 0 to `largest` without spread, as far as `unseen` reaches."""
    data = np.asarray(values, dtype=np.float64)
    low, high = (float(end) for end in intervals(data[:, None])[1][:, 0])
    if largest is not None and low == high:
        low, high = max(0.0, low - unseen(len(data), largest)), min(largest, high + unseen(len(data), largest))
    return Measured(round(float(data.mean()), 6), len(values), (round(low, 6), round(high, 6)), unit)


def unseen(n: int, largest: float) -> float:
    """How far a mean may be from n equal values, when others within `largest` of them were merely not met (Clopper-Pearson, 95 %).

    A bootstrap knows nothing of what did not occur: of 12 words out of 12 it would say that all words are read, with certainty.
    """
    return largest * float(1 - (ALPHA / 2) ** (1 / n))


# ---- tests ----


@functools.lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """float32 [RESAMPLES, n] of -1 and 1."""
    return np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.float32), size=(RESAMPLES, n))


def sign_flip(differences: np.ndarray) -> np.ndarray:
    """Two-sided p values [k] of mean differences 0, for float [n, k]; at least 1 / (RESAMPLES + 1)."""
    data = np.asarray(differences, dtype=np.float64)
    largest = np.abs(data).max(axis=0)
    scaled = (data / np.where(largest > 0, largest, 1)).astype(np.float32)
    found = np.abs(scaled.sum(axis=0))
    as_far = np.abs(_signs(len(data)) @ scaled) >= found - 1e-4  # float32 sums of one set differ in their last digits
    return (1 + as_far.sum(axis=0)) / (RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number, which controls the chance of any false finding (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def equivalence(differences: np.ndarray, margin: float, largest: float | None = None) -> float:
    """p value of "the mean difference is `margin` or more, either way"; small means equal for all that matters.

    Args:
        differences: float [n], n >= 2.
        largest: the largest difference a caption can have; None where there is no bound. A mean of `margin` then needs a share of at
            least margin / largest of captions that differ, which gives an exact bound where few do.
    """
    data = np.asarray(differences, dtype=np.float64)
    n, differing = len(data), int(np.count_nonzero(data))
    if largest is not None and differing < SPARSE:
        return float(stats.binom.cdf(differing, n, min(1.0, margin / largest)))
    mean, error = float(data.mean()), float(data.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(mean)) / error, n - 1))


def captions_needed(deviation: float, margin: float) -> int:
    """Captions with which a difference of `margin` would be found in 80 % of suites (two-sided 5 %, normal approximation)."""
    factor = special.ndtri(1 - ALPHA / 2) + special.ndtri(POWER)
    return max(2, math.ceil((factor * deviation / margin) ** 2))


# ---- a pair of variants ----


def compare(candidate: str, baseline: str, mine: Mapping[str, Values], theirs: Mapping[str, Values]) -> list[Comparison]:
    """All metrics that both variants were measured by, caption by caption; Holm over these metrics.

    Raises:
        RequestError: a metric has values for different numbers of captions.
    """
    names = [name for name in METRICS if name in mine and name in theirs and METRICS[name].margin is not None]
    found = {name: paired(mine[name], theirs[name], name) for name in names}
    found = {name: data for name, data in found.items() if len(data) >= 2}
    p = {name: float(sign_flip(data[:, None])[0]) for name, data in found.items()}
    equal = {name: equivalence(data, _margin(METRICS[name]), METRICS[name].largest) for name, data in found.items()}
    p_holm, equal_holm = holm(list(p.values())), holm(list(equal.values()))
    return [
        _comparison(METRICS[name], candidate, baseline, data, (p[name], p_holm[i], equal_holm[i]))
        for i, (name, data) in enumerate(found.items())
    ]


def paired(mine: Values, theirs: Values, name: str) -> np.ndarray:
    """float64 [n]: the differences of captions that have both values."""
    if len(mine) != len(theirs):
        raise RequestError(f"{name} has values of {len(mine)} and of {len(theirs)} captions; compare runs of one suite")
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None]
    return np.array([a - b for a, b in pairs], dtype=np.float64)


def _comparison(
    metric: Metric, candidate: str, baseline: str, data: np.ndarray, p_values: tuple[float, float, float]
) -> Comparison:
    mean, margin = float(data.mean()), _margin(metric)
    reach = unseen(len(data), metric.largest) if metric.largest is not None and np.ptp(data) == 0 else 0.0
    percentile, bca = (
        (round(float(low) - reach, 6), round(float(high) + reach, 6)) for (low,), (high,) in intervals(data[:, None])
    )
    p, p_holm, p_equivalence = (round(value, 6) for value in p_values)
    return Comparison(
        metric=metric.name,
        candidate=candidate,
        baseline=baseline,
        n=len(data),
        difference=round(mean, 6),
        percentile=percentile,
        bca=bca,
        p=p,
        p_holm=p_holm,
        p_equivalence=p_equivalence,
        margin=margin,
        captions_needed=captions_needed(float(data.std(ddof=1)), margin),
        verdict=verdict(metric, mean, len(data), p_holm, p_equivalence),
    )


def verdict(metric: Metric, mean: float, n: int, p_holm: float, p_equivalence: float) -> Verdict:
    """Equal by the equivalence test; else better or worse by the corrected test; else undecided."""
    if n < FEWEST:
        return "undecided"
    if p_equivalence < ALPHA:
        return "equal"
    if p_holm < ALPHA:
        return "better" if (mean > 0) == (metric.better == "higher") else "worse"
    return "undecided"


def _margin(metric: Metric) -> float:
    assert metric.margin is not None  # `compare` leaves out metrics that captions do not have
    return metric.margin
