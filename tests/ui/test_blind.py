"""Blind rounds: nothing of what the page gets tells which variant is where."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ideogram_q8.errors import RequestError
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.ui.engine.blind import MAX_OPEN_ROUNDS, BlindSide, Round, Rounds, draw_pair, nameless

REQUEST = Request("{}", 3, "turbo-12", 64, 64)
ROUND = Round(BlindSide("int8", "a" * 64, Path("l.png")), BlindSide("fp8", "b" * 64, Path("r.png")), REQUEST, "text")


def test_every_ordered_pair_comes_about_equally_often() -> None:
    counts = Counter(draw_pair(["a", "b", "c"]) for _ in range(6000))
    assert len(counts) == 6 and all(a != b for a, b in counts)
    assert min(counts.values()) > 800  # 1,000 expected; seven deviations below it


@pytest.mark.parametrize("variants", [[], ["a"], ["a", "a"]])
def test_one_variant_is_no_pair(variants: list[str]) -> None:
    with pytest.raises(RequestError, match="at least two"):
        draw_pair(variants)


def test_a_nameless_picture_has_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_itxt("ideogram_q8", '{"variant": "secret"}')
    named = tmp_path / "20261123-int8-seed3.png"
    Image.effect_noise((32, 16), 90).convert("RGB").save(named, pnginfo=info)
    found = nameless(named, tmp_path / "blind")
    assert b"secret" not in found.read_bytes() and "int8" not in found.name
    with Image.open(named) as a, Image.open(found) as b:
        assert a.tobytes() == b.tobytes() and b.size == (32, 16) and not b.info


def test_a_round_is_voted_on_once_and_says_then_what_it_was() -> None:
    rounds = Rounds()
    token = rounds.add(ROUND)
    with pytest.raises(RequestError, match="expected one of"):
        rounds.vote(token, "middle")  # type: ignore[arg-type]
    found, vote = rounds.vote(token, "left")
    assert found == ROUND
    assert (vote.ballot.left, vote.ballot.right, vote.ballot.choice, vote.ballot.category) == ("int8", "fp8", "left", "text")
    assert (vote.left_sha256, vote.right_sha256, vote.seed) == ("a" * 64, "b" * 64, 3)
    with pytest.raises(RequestError, match="over"):
        rounds.vote(token, "left")


def test_open_rounds_are_bounded() -> None:
    rounds = Rounds()
    tokens = [rounds.add(ROUND) for _ in range(MAX_OPEN_ROUNDS + 1)]
    assert len(set(tokens)) == len(tokens)
    with pytest.raises(RequestError, match="over"):
        rounds.vote(tokens[0], "tie")
    rounds.vote(tokens[1], "tie")
