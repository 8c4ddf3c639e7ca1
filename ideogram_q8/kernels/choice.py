"""Choosing one of several ways to compute: the first in order of preference that has no reason against it, and the others' reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch


class Named(Protocol):
    """A back end."""

    @property
    def name(self) -> str: ...


Way = TypeVar("Way", bound=Named)


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """The back end that runs, and (name, reason) of each preferred one that was refused."""

    backend: Way
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "; ".join([self.backend.name, *(f"{name} refused: {reason}" for name, reason in self.refused)])


def first(backends: Sequence[Way], reason_against: Callable[[Way], str | None]) -> Choice[Way]:
    """The first back end without a reason against it. Raises AssertionError: there is none; the last should refuse nothing."""
    refused: list[tuple[str, str]] = []
    for backend in backends:
        reason = reason_against(backend)
        if reason is None:
            return Choice(backend, tuple(refused))
        refused.append((backend.name, reason))
    raise AssertionError("the last refuses nothing")


def placed(device: str | torch.device) -> tuple[str, tuple[int, int] | None]:
    """A device as torch prints it, CUDA's with its number, and CUDA's compute capability, None elsewhere."""
    place = torch.device(device)
    if place.type != "cuda":
        return str(place), None
    if place.index is None:
        place = torch.device("cuda", torch.cuda.current_device())
    return str(place), torch.cuda.get_device_capability(place)
