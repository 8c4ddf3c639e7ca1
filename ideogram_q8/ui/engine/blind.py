"""Blind rounds: which two variants are on which side is known to the server alone until the vote is in.

Neither file names nor what is inside the files tells: pictures are saved again, without metadata, under a random name.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ideogram_q8.errors import RequestError
from ideogram_q8.measure.preference import Ballot, Choice
from ideogram_q8.ui.engine.library import Vote

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

MAX_OPEN_ROUNDS = 256
"""Rounds that wait for a vote; the oldest are forgotten first."""


@dataclass(frozen=True)
class BlindSide:
    """A variant in a round: its name, its artifact's sha256 and the nameless picture of it."""

    variant: str
    sha256: str
    picture: Path


@dataclass(frozen=True)
class Round:
    """Two pictures of one request."""

    left: BlindSide
    right: BlindSide
    request: Request
    category: str


class Rounds:
    """The rounds that wait for their vote, by a token that is all the page gets. For any number of threads."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Round] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, opened: Round) -> str:
        """Returns the token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._open[token] = opened
            while len(self._open) > MAX_OPEN_ROUNDS:
                self._open.popitem(last=False)
        return token

    def vote(self, token: str, choice: Choice) -> tuple[Round, Vote]:
        """Closes the round: it can be voted on once.

        Raises:
            RequestError: there is no such round, or the choice is none.
        """
        with self._lock:
            found = self._open.get(token)
            if found is None:
                raise RequestError("this round is over; start another one")
            ballot = Ballot(found.left.variant, found.right.variant, choice, found.category)
            del self._open[token]
        request = found.request
        vote = Vote(ballot, found.left.sha256, found.right.sha256, request.caption, request.seed, request.preset)
        return found, vote


def draw_pair(variants: Sequence[str]) -> tuple[str, str]:
    """Two different variants, left and right; every ordered pair is equally likely.

    Raises:
        RequestError: there are fewer than two.
    """
    if len(set(variants)) < 2:
        raise RequestError("a blind round needs two variants; choose at least two")
    left, right = secrets.SystemRandom().sample(sorted(set(variants)), 2)
    return left, right


def nameless(picture: Path, folder: Path) -> Path:
    """A copy of the pixels alone in `folder`, under a random name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"blind-{secrets.token_hex(12)}.png"
    with Image.open(picture) as image:
        pixels = image.convert("RGB")
    Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(path)
    return path
