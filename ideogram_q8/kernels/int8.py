"""The W8A8 linear: activations quantized per row at run time, an exact int32 product, both scales applied in float32.

Every back end computes the same int32 product, so they differ in speed only. Each states what it refuses as data; `choose`
takes the first that refuses nothing and keeps the reasons of the others. Not here: `torch._int_mm` on CPU, which is a scalar
loop without AVX512-VNNI and silently wrong when ONEDNN_MAX_CPU_ISA is set below it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.numerics import int8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One product int8 [rows, inputs] x int8 [outputs, inputs]^T on a device.

    `capability` is CUDA's compute capability, None elsewhere.
    """

    device: str
    capability: tuple[int, int] | None
    rows: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Backend:
    """`matmul` maps int8 [M, K] and int8 [N, K] to int32 [M, N], exactly; `refuses` gives its reason or None."""

    name: str
    matmul: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    refuses: Callable[[Problem], str | None]


@dataclass(frozen=True)
class Choice:
    """The back end that runs, and (name, reason) of each preferred one that was refused."""

    backend: Backend
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        reasons = "".join(f"; {name} refused: {reason}" for name, reason in self.refused)
        return f"{self.backend.name}{reasons}"


def _int_mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch._int_mm(a, b.t())


def _int_mm_refuses(problem: Problem) -> str | None:
    if problem.capability is None:
        return f"needs CUDA, the tensors are on {problem.device}"
    if problem.capability < (7, 5):
        return f"needs compute capability 7.5, got {problem.capability[0]}.{problem.capability[1]}"
    if problem.rows <= 16:
        return f"needs more than 16 rows, got {problem.rows}"
    if problem.inputs % 8 or problem.outputs % 8:
        return f"needs multiples of 8, got {problem.inputs} inputs and {problem.outputs} outputs"
    return None


BACKENDS: tuple[Backend, ...] = (
    Backend("torch._int_mm", _int_mm, _int_mm_refuses),
    Backend("exact float32 chunks", int8.matmul, lambda _: None),
)
"""In order of preference; the last is the reference and refuses nothing."""


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem) -> Choice:
    """The first back end that takes `problem`."""
    refused: list[tuple[str, str]] = []
    for backend in BACKENDS:
        reason = backend.refuses(problem)
        if reason is None:
            choice = Choice(backend, tuple(refused))
            _log_once(problem.device, str(choice))
            return choice
        refused.append((backend.name, reason))
    raise AssertionError("the reference refuses nothing")


@functools.lru_cache(maxsize=64)
def _log_once(device: str, text: str) -> None:
    _log.info("int8 linear on %s: %s", device, text)


def int8_linear(x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """y = (quantize(x) @ codes^T) * scale_x * scale + bias, rounded once to the dtype of `x`.

    Args:
        x: floating [..., K]; each row gets its own scale amax/127 (`numerics.int8.quantize_per_token`).
        codes: int8 [N, K].
        scale: float32 [N, 1].
        bias: floating [N] or None.

    Returns:
        [..., N] in the dtype of `x`.
    """
    rows, row_scale = int8.quantize_per_token(x.reshape(-1, x.shape[-1]))
    capability = torch.cuda.get_device_capability(x.device) if x.is_cuda else None
    choice = choose(Problem(x.device.type, capability, rows.shape[0], rows.shape[1], codes.shape[0]))
    y = choice.backend.matmul(rows, codes).to(torch.float32).mul_(row_scale).mul_(scale.t())
    if bias is not None:
        y += bias
    return y.to(x.dtype).reshape(*x.shape[:-1], codes.shape[0])
