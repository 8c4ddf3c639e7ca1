"""Seeds between 0 and 2^63 - 1, none of them a float."""

from __future__ import annotations

import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import MAX_SEED, PRESETS
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.ui.engine.seeds import consecutive, exact, read_seed, roll_seed

LARGE = 2**53 + 1


@pytest.mark.parametrize(
    ("typed", "seed"), [("7", 7), (" 7 ", 7), ("5.0", 5), (None, 0), ("", 0), (str(MAX_SEED), MAX_SEED), (str(LARGE), LARGE)]
)
def test_a_seed_is_what_was_typed(typed: str | None, seed: int) -> None:
    assert read_seed(typed) == seed


@pytest.mark.parametrize("typed", ["-1", str(MAX_SEED + 1), "1e5", "1.5", "seven", "0x10", "1_000", "9" * 400, "٣", "nan"])
def test_what_is_none_is_refused(typed: str) -> None:
    with pytest.raises(RequestError, match=f"expected a whole number from 0 to {MAX_SEED}"):
        read_seed(typed)


def test_rolled_seeds_are_seeds() -> None:
    assert all(0 <= read_seed(roll_seed()) <= MAX_SEED for _ in range(100))


def test_after_the_largest_seed_comes_0() -> None:
    first = Request("{}", MAX_SEED - 1, next(iter(PRESETS)), 64, 64)
    assert [request.seed for request in consecutive(first, 4)] == [MAX_SEED - 1, MAX_SEED, 0, 1]


def test_a_browser_is_given_no_number_that_it_rounds() -> None:
    assert exact({"seed": MAX_SEED, "width": 64, "versions": {}}) == {"seed": str(MAX_SEED), "width": 64, "versions": {}}
    assert exact({"seed": 2**53 - 1}) == {"seed": 2**53 - 1}
