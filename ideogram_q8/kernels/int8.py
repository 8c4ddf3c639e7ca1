"""The W8A8 linear: activations quantized per row at run time, an exact int32 product, both scales applied in float32.

Back ends differ in speed, not in meaning. Each states what it refuses as data, and is tried once on numbers whose products are
known; `choose` takes the first that neither refuses nor is wrong, and keeps the reasons of the others.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.kernels import cpu, kitchen, tiles, triton_int8
from ideogram_q8.kernels.epilogue import scaled
from ideogram_q8.kernels.operators import linear_operator
from ideogram_q8.numerics import int8

_log = logging.getLogger(__name__)

FEWEST_ROWS = 32
"""Fewer rows need no integer product: reading the weight is what takes the time, and whole activations are more exact."""
_SELF_TEST_INPUTS = 512
"""More than two steps deep for every tile, and sums below 2^24, which float32 holds exactly."""


@dataclass(frozen=True)
class Problem:
    """A product of floating [rows, inputs] with int8 [outputs, inputs] on a device.

    `device` is as torch prints it; `capability` is CUDA's compute capability, None elsewhere; `dtype` is that of the activations.
    """

    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    rows: int
    inputs: int
    outputs: int


Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(x [M, K], codes int8 [N, K], scale float32 [N, 1], bias [N] or None) -> [M, N] in the dtype of x."""


@dataclass(frozen=True)
class Backend:
    """One way to compute; `refuses` gives its reason or None. The definitions in plain torch are not tried against themselves."""

    name: str
    linear: Linear
    refuses: Callable[[Problem], str | None]
    is_definition: bool = False


@dataclass(frozen=True)
class Choice:
    """The back end that runs, and (name, reason) of each preferred one that was refused."""

    backend: Backend
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        reasons = "".join(f"; {name} refused: {reason}" for name, reason in self.refused)
        return f"{self.backend.name}{reasons}"


# ---- the back ends of plain torch ----


def _int_mm_linear(x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    rows, row_scale = int8.quantize_per_token(x)
    return scaled(torch._int_mm(rows, codes.t()), row_scale, scale, bias, x.dtype)


def _exact_linear(x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The definition. By tiles of outputs, since its products are of float32 copies."""
    rows, row_scale = int8.quantize_per_token(x)
    y = x.new_empty(len(x), len(codes))
    step = tiles.rows_of_a_tile(len(x), len(codes), x.shape[1])
    for start in range(0, len(codes), step):
        part = slice(start, start + step)
        product = int8.matmul(rows, codes[part])
        y[:, part] = scaled(product, row_scale, scale[part], None if bias is None else bias[part], x.dtype)
    return y


@linear_operator
def int8_weight_only_linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x [..., K] @ (codes * scale)^T + bias -> [..., N], the weight rounded once to the dtype of `x`: W8A16."""

    def expand(start: int, stop: int, out: torch.Tensor) -> None:
        out.copy_(int8.dequantize(codes[start:stop], scale[start:stop]))

    return tiles.linear(x.reshape(-1, x.shape[-1]), len(codes), expand, bias).reshape(*x.shape[:-1], len(codes))


# ---- what they refuse ----


def _few(problem: Problem) -> str | None:
    return f"needs {FEWEST_ROWS} rows, got {problem.rows}" if problem.rows < FEWEST_ROWS else None


def _kitchen_refuses(problem: Problem) -> str | None:
    return kitchen.refuses(problem.capability, problem.dtype) or _few(problem)


def _triton_refuses(problem: Problem) -> str | None:
    reason = triton_int8.refuses(problem.capability, problem.rows, problem.inputs, problem.outputs) or _few(problem)
    return reason or (None if importlib.util.find_spec("triton") else "Triton is not installed")


def _int_mm_refuses(problem: Problem) -> str | None:
    if problem.capability is None:
        return "needs CUDA"
    if problem.capability < (7, 5):
        return f"needs compute capability 7.5, got {problem.capability[0]}.{problem.capability[1]}"
    if problem.inputs % 8 or problem.outputs % 8:
        return f"needs multiples of 8, got {problem.inputs} inputs and {problem.outputs} outputs"
    return _few(problem)


def _cpu_refuses(problem: Problem) -> str | None:
    return cpu.refuses(problem.device)


def _dequantize_refuses(problem: Problem) -> str | None:
    if problem.capability is None:
        return "needs CUDA"
    return None if _few(problem) else f"is for fewer than {FEWEST_ROWS} rows, got {problem.rows}"


BACKENDS: tuple[Backend, ...] = (
    Backend("comfy-kitchen", kitchen.linear, _kitchen_refuses),
    Backend("Triton", triton_int8.linear, _triton_refuses),
    Backend("torch._int_mm", _int_mm_linear, _int_mm_refuses),
    Backend("AVX512-VNNI", cpu.linear, _cpu_refuses),
    Backend("dequantize", int8_weight_only_linear, _dequantize_refuses, is_definition=True),
    Backend("exact float32 chunks", _exact_linear, lambda _: None, is_definition=True),
)
"""In order of preference; the last refuses nothing."""


def self_test(backend: Backend, problem: Problem) -> str | None:
    """Why `backend` cannot be trusted on the device of `problem`, or None; tries it once for each device and dtype."""
    return None if backend.is_definition else _tried(backend, problem.device, problem.dtype)


@functools.lru_cache(maxsize=64)
def _tried(backend: Backend, device: str, dtype: torch.dtype) -> str | None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (64, _SELF_TEST_INPUTS), generator=generator, dtype=torch.int8) for _ in range(2))
    a[0], b[0], b[1] = 127, 127, -127  # the largest sums of both signs, where 16-bit sums would saturate
    a[:, -1] = 127  # every row has scale 1
    ones = torch.ones(64, 1)
    expected = int8.matmul(a, b).to(dtype)
    try:
        y = backend.linear(a.to(device, dtype), b.to(device), ones.to(device), None).cpu()
    except Exception as error:  # noqa: BLE001 (compilers and drivers, which are not ours; the reason is shown)
        return f"self-test failed: {type(error).__name__}: {error}"[:300]
    wrong = int((y != expected).sum()) if y.shape == expected.shape else expected.numel()
    return f"self-test failed: {wrong} of {expected.numel()} sums are wrong" if wrong else None


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem, test: Callable[[Backend, Problem], str | None] = self_test) -> Choice:
    """The first back end that takes `problem` and passes `test`."""
    refused: list[tuple[str, str]] = []
    for backend in BACKENDS:
        reason = backend.refuses(problem) or test(backend, problem)
        if reason is None:
            choice = Choice(backend, tuple(refused))
            _log_once(problem.device, choice)
            return choice
        refused.append((backend.name, reason))
    raise AssertionError("the last refuses nothing")


_logged: set[tuple[str, str]] = set()
"""Devices and back ends whose choice was told; the reasons may name numbers of rows, the next choice is no news."""


def _log_once(device: str, choice: Choice) -> None:
    if (device, choice.backend.name) not in _logged:
        _logged.add((device, choice.backend.name))
        _log.info("int8 linear on %s: %s", device, choice)


# ---- the operator ----


@linear_operator
def int8_linear(x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """y = (quantize(x) @ codes^T) * scale_x * scale + bias, rounded once to the dtype of `x`.

    Args:
        x: floating [..., K]; each row gets its own scale amax/127 (`numerics.int8.quantize_per_token`). On CUDA fewer than
            FEWEST_ROWS rows are not quantized.
        codes: int8 [N, K].
        scale: float32 [N, 1].
        bias: floating [N] or None.

    Returns:
        [..., N] in the dtype of `x`.
    """
    rows = x.reshape(-1, x.shape[-1])
    choice = choose(_problem(rows, len(codes)))
    return choice.backend.linear(rows, codes, scale, bias).reshape(*x.shape[:-1], len(codes))


def _problem(rows: torch.Tensor, outputs: int) -> Problem:
    capability = torch.cuda.get_device_capability(rows.device) if rows.is_cuda else None
    return Problem(str(rows.device), capability, rows.dtype, rows.shape[0], rows.shape[1], outputs)
