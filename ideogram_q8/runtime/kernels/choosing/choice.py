"""Choosing one of several ways to compute: the first in order of preference that has no reason against it, and the others' reasons."""

from __future__ import annotations

import logging
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from ideogram_q8.machine.out_of_memory import lacks_memory


class NamedBackend(Protocol):
    """A back end."""

    @property
    def name(self) -> str: ...


Way = TypeVar("Way", bound=NamedBackend)
_PYTHON_H = Path(sysconfig.get_paths(scheme="posix_prefix")["include"]) / "Python.h"
"""Where Triton has its C compiler look for it on Linux."""


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """The back end that runs, and (name, reason) of each preferred one that was refused."""

    backend: Way
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return said(self.backend.name, self.refused)


def said(runs: str, refused: Sequence[tuple[str, str]]) -> str:
    """What runs, and why nothing that is preferred does, in words."""
    return "; ".join([runs, *(f"{name} refused: {reason}" for name, reason in refused)])


def first(backends: Sequence[Way], reason_against: Callable[[Way], str | None]) -> Choice[Way]:
    """The first back end without a reason against it. Raises AssertionError: there is none; the last should refuse nothing."""
    refused: list[tuple[str, str]] = []
    for backend in backends:
        reason = reason_against(backend)
        if reason is None:
            return Choice(backend, tuple(refused))
        refused.append((backend.name, reason))
    raise AssertionError("the last refuses nothing")


def trial(try_it: Callable[[], str | None]) -> str | None:
    """What `try_it` has against a back end; what compilers and drivers, which are not ours, raise in it is a reason too.

    Raises:
        Exception: memory ran out, which says nothing about the back end: it may fit the next time, so nobody must remember a refusal.
    """
    try:
        return try_it()
    except Exception as error:
        if lacks_memory(error):
            raise
        return lacks_compiler(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300]


INSTALL_COMPILER = "install one with Python's headers: `apt install gcc python3-dev`, `dnf install gcc python3-devel`"


def lacks_compiler(error: BaseException) -> str | None:
    """What to install where Triton could not build its launcher, else None.

    Triton compiles a file of C with gcc or clang, against Python.h and libcuda, when it is first used (runtime/build.py, 3.7): without a
    compiler it raises RuntimeError; a compiler that fails raises CalledProcessError, its own lines on standard error.
    """
    if isinstance(error, RuntimeError) and "Failed to find C compiler" in str(error):
        return f"Triton needs a C compiler, and finds no gcc and no clang; {INSTALL_COMPILER}"
    if not isinstance(error, subprocess.CalledProcessError):
        return None
    command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
    if not _PYTHON_H.is_file():
        return f"Triton's C compiler ({command.split()[0]}) finds no {_PYTHON_H}; {INSTALL_COMPILER}"
    return f"Triton's C compiler failed, and what it printed says why: {command}"[:300]


def tell(log: logging.Logger, subject: str, runs: str, refused: Sequence[tuple[str, str]], *, slower: bool) -> None:
    """Logs what runs and why nothing better does: as a warning where `slower`, a refusal that costs speed which people expect."""
    log.log(logging.WARNING if slower and refused else logging.INFO, "%s: %s", subject, said(runs, refused))


def tell_triton(log: logging.Logger, subject: str, reason: str | None) -> None:
    """`tell` of what Triton does on a GPU, and plain torch where there is a reason against Triton."""
    runs, refused = ("Triton", []) if reason is None else ("plain torch", [("Triton", reason)])
    tell(log, subject, runs, refused, slower=True)


def placed(device: str | torch.device) -> tuple[str, tuple[int, int] | None]:
    """A device as torch prints it, CUDA's with its number, and CUDA's compute capability, None elsewhere."""
    place = indexed(torch.device(device))
    return str(place), torch.cuda.get_device_capability(place) if place.type == "cuda" else None


def indexed(device: torch.device) -> torch.device:
    """The same device, CUDA's with its number: as tensors have it, so that what was tried on a device is known of it by any name."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())
