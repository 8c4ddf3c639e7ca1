"""Votes: intervals that cover, an order that is the one votes were drawn from, and symmetries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ideogram_q8.errors import RequestError
from ideogram_q8.measure.preference import Ballot, Choice, bradley_terry, by_category, standings, wilson


@pytest.mark.parametrize(("wins", "votes"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (50, 100), (1, 1000)])
def test_wilson_equals_scipy(wins: int, votes: int) -> None:
    theirs = binomtest(wins, votes).proportion_ci(method="wilson")
    assert wilson(wins, votes) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("score", "votes"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_scores_that_no_votes_give(score: float, votes: int) -> None:
    with pytest.raises(ValueError, match="expected at least one vote"):
        wilson(score, votes)


def drawn(strengths: dict[str, float], votes: int, seed: int) -> list[Ballot]:
    random = np.random.default_rng(seed)
    pairs = list(itertools.permutations(strengths, 2))
    found = []
    for _ in range(votes):
        left, right = pairs[random.integers(len(pairs))]
        chance = 1 / (1 + math.exp(strengths[right] - strengths[left]))
        found.append(Ballot(left, right, "left" if random.random() < chance else "right"))
    return found


def test_the_order_is_the_one_that_votes_were_drawn_from() -> None:
    truth = {"fp8": 0.8, "int8": 0.3, "q8_0": -0.2, "q4_k_s": -0.9}
    found = bradley_terry(list(truth), drawn(truth, 20_000, 0))
    assert found == pytest.approx(truth, abs=0.06)


def test_the_fit_is_where_expected_wins_equal_wins() -> None:
    names = ["a", "b", "c"]
    ballots = [Ballot("a", "b", "left"), Ballot("b", "c", "left"), Ballot("c", "a", "tie"), Ballot("a", "c", "left")]
    found = bradley_terry(names, ballots)
    for name in names:
        scores, expected = 0.0, 0.0
        for ballot in ballots:
            if name in (ballot.left, ballot.right):
                scores += ballot.left_score if ballot.left == name else 1 - ballot.left_score
                other = ballot.right if ballot.left == name else ballot.left
                expected += 1 / (1 + math.exp(found[other] - found[name]))
        for other in names:  # the tie with each of the others
            if other != name:
                scores += 0.5
                expected += 1 / (1 + math.exp(found[other] - found[name]))
        assert expected == pytest.approx(scores, abs=1e-8)


def swapped(ballot: Ballot) -> Ballot:
    choices: dict[Choice, Choice] = {"left": "right", "right": "left"}
    return Ballot(ballot.right, ballot.left, choices.get(ballot.choice, ballot.choice), ballot.category)


def test_sides_do_not_count() -> None:
    ballots = [*drawn({"a": 1.0, "b": 0.0, "c": -1.0}, 50, 1), Ballot("a", "b", "tie"), Ballot("c", "b", "both_bad")]
    assert standings([swapped(ballot) for ballot in ballots]) == standings(ballots)


def test_a_variant_that_never_lost_is_finite_and_first() -> None:
    found = standings([Ballot("a", "b", "left")] * 9)
    assert [standing.variant for standing in found] == ["a", "b"]
    assert found[0].win_rate == 1.0 and 0.6 < found[0].interval[0] < 1.0 and math.isfinite(found[0].strength)
    assert found[0].strength == pytest.approx(-found[1].strength)


def test_ties_and_both_bad_are_half_a_win_for_each_and_counted() -> None:
    first, second = standings([Ballot("a", "b", "tie"), Ballot("b", "a", "both_bad")])
    assert (first.win_rate, second.win_rate) == (0.5, 0.5) and first.strength == pytest.approx(0)
    assert (first.votes, first.wins, first.ties, first.both_bad) == (2, 0, 1, 1)


def test_categories_stand_for_themselves() -> None:
    ballots = [Ballot("a", "b", "left", "text"), Ballot("a", "b", "right", "hands")]
    found = by_category(ballots)
    assert list(found) == ["hands", "text"]
    assert (found["hands"][0].variant, found["text"][0].variant) == ("b", "a")
    assert by_category([]) == {} and standings([]) == []


@pytest.mark.parametrize(("left", "right", "choice"), [("a", "a", "left"), ("a", "b", "middle")])
def test_votes_that_mean_nothing_are_refused(left: str, right: str, choice: Choice) -> None:
    with pytest.raises(RequestError):
        Ballot(left, right, choice)
