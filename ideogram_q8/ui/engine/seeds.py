"""Seeds: read as they are typed, rolled, and requests that differ in nothing else.

The page and its endpoints carry a seed as text: a browser has floats only, which round what is above 2^53.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import MAX_SEED

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

MAX_ROLLED = 2**31 - 1
"""Short enough to be read out."""
_EXACT = 2**53
"""The numbers below it are exact in a browser."""


def read_seed(text: str | None) -> int:
    """A seed as it was typed, or given to an endpoint as a number; 0 where there is none. Raises RequestError."""
    typed = (text or "0").strip()
    if not re.fullmatch(r"[0-9]{1,19}(\.0)?", typed) or int(typed.split(".")[0]) > MAX_SEED:
        raise RequestError(f"seed is {typed[:40]!r}; expected a whole number from 0 to {MAX_SEED}")
    return int(typed.split(".")[0])


def roll_seed() -> str:
    """A random seed."""
    return str(random.randint(0, MAX_ROLLED))


def consecutive(first: Request, count: int) -> list[Request]:
    """The request and those with the seeds after it; after the largest seed comes 0."""
    return [dataclasses.replace(first, seed=(first.seed + i) % (MAX_SEED + 1) if i else first.seed) for i in range(count)]


def exact(metadata: Mapping[str, object]) -> dict[str, object]:
    """Metadata for a browser: whole numbers that it would round are text."""
    return {key: str(value) if isinstance(value, int) and abs(value) >= _EXACT else value for key, value in metadata.items()}
