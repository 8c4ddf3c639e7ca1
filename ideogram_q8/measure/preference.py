"""What blind votes say: win rates with Wilson intervals, and a Bradley-Terry order.

A vote is between two variants on the same caption and seed. A tie, and "both bad", counts as half a win for each, as in chess:
leaving ties out would call two variants that nobody can tell apart unequal on the strength of a few votes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ideogram_q8.errors import RequestError

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad")
Z_95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""
_ITERATIONS = 10_000
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Ballot:
    """One vote: what was on each side, and what was said of it."""

    left: str
    right: str
    choice: Choice
    category: str = ""

    def __post_init__(self) -> None:
        if self.left == self.right:
            raise RequestError(f"both sides are {self.left}; a vote is between two variants")
        if self.choice not in CHOICES:
            raise RequestError(f"the vote is {self.choice!r}; expected one of {', '.join(CHOICES)}")

    @property
    def left_score(self) -> float:
        """1 for a win of the left side, 0 for one of the right, a half otherwise."""
        return {"left": 1.0, "right": 0.0}.get(self.choice, 0.5)


Ballots = Iterable[Ballot] | Mapping[Ballot, int]
"""Votes one by one, or how often each was given: among 50,000 there are only some hundred different ones."""


@dataclass(frozen=True)
class Standing:
    """A variant among those it was compared with.

    Attributes:
        votes: in which it took part.
        win_rate: mean score, with its Wilson 95 % interval.
        strength: Bradley-Terry, as the natural logarithm of the odds against the mean of all variants.
    """

    variant: str
    votes: int
    wins: int
    ties: int
    both_bad: int
    win_rate: float
    interval: tuple[float, float]
    strength: float


def wilson(score: float, votes: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson 1927, JASA 22:209): `score` of `votes`, halves allowed.

    Raises:
        ValueError: there are no votes, or the score is not within 0..votes.
    """
    if votes < 1 or not 0 <= score <= votes:
        raise ValueError(f"the score is {score} of {votes} votes; expected at least one vote and a score of 0 to {votes}")
    rate, z2 = score / votes, Z_95**2 / votes
    centre = (rate + z2 / 2) / (1 + z2)
    half = math.sqrt(rate * (1 - rate) * z2 + z2**2 / 4) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def bradley_terry(variants: Sequence[str], ballots: Ballots) -> dict[str, float]:
    """Log strengths, mean 0: P(a beats b) = 1 / (1 + exp(strength_b - strength_a)).

    Fitted by minorization-maximization (Hunter 2004, Annals of Statistics 32:384). Every variant also ties once with every other,
    which keeps strengths finite where one of them never lost and joins groups that never met.
    """
    index = {name: i for i, name in enumerate(variants)}
    count = len(index)
    if count < 2:
        return dict.fromkeys(index, 0.0)
    scores = 0.5 * (1.0 - np.eye(count))
    for ballot, times in Counter(ballots).items():
        a, b = index[ballot.left], index[ballot.right]
        scores[a, b] += times * ballot.left_score
        scores[b, a] += times * (1.0 - ballot.left_score)
    games, wins = scores + scores.T, scores.sum(axis=1)
    log_strength = np.zeros(count)
    for _ in range(_ITERATIONS):
        strength = np.exp(log_strength)
        new = np.log(wins / (games / (strength[:, None] + strength[None, :])).sum(axis=1))
        new -= new.mean()
        done = np.abs(new - log_strength).max() < _TOLERANCE
        log_strength = new
        if done:
            break
    return {name: float(log_strength[i]) for name, i in index.items()}


def standings(ballots: Ballots) -> list[Standing]:
    """Every variant that was voted on, the strongest first; equal strengths by name."""
    counts = Counter(ballots)
    names = sorted({name for ballot in counts for name in (ballot.left, ballot.right)})
    strengths = bradley_terry(names, counts)
    found = [_standing(name, strengths[name], counts) for name in names]
    return sorted(found, key=lambda standing: (-round(standing.strength, 9), standing.variant))


def by_category(ballots: Ballots) -> dict[str, list[Standing]]:
    """`standings` of each category, categories by name."""
    counts = Counter(ballots)
    names = sorted({ballot.category for ballot in counts})
    return {name: standings({each: n for each, n in counts.items() if each.category == name}) for name in names}


def _standing(name: str, strength: float, counts: Mapping[Ballot, int]) -> Standing:
    scores: Counter[float] = Counter()
    kinds: Counter[str] = Counter()
    for ballot, count in counts.items():
        if name in (ballot.left, ballot.right):
            scores[ballot.left_score if ballot.left == name else 1.0 - ballot.left_score] += count
            kinds[ballot.choice] += count
    votes, score = sum(scores.values()), sum(value * count for value, count in scores.items())
    return Standing(name, votes, scores[1.0], kinds["tie"], kinds["both_bad"], score / votes, wilson(score, votes), strength)
