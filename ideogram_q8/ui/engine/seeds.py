"""Seeds: a random one, and requests that differ in nothing else."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

MAX_SEED = 2**31 - 1
"""Smaller than the model's own: a number that every browser keeps exactly."""


def roll_seed() -> int:
    """A random seed."""
    return random.randint(0, MAX_SEED)


def consecutive(first: Request, count: int) -> list[Request]:
    """The request and those with the seeds after it; after the largest seed comes 0."""
    return [dataclasses.replace(first, seed=(first.seed + i) % (MAX_SEED + 1) if i else first.seed) for i in range(count)]
