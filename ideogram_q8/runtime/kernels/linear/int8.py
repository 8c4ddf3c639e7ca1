"""The W8A8 linear: activations quantized per row at run time, an exact int32 product, both scales applied in float32.

Back ends differ in speed, and comfy-kitchen in some codes of the activations by one (`kitchen` says how many, and what it costs: 0.3 dB
of 38 at most). Each states what it refuses as data, and is tried on numbers whose results are known, on CUDA in the shape that it is for;
`choose` takes the one that was measured to be the fastest on this device (`tuning`), else the first in the order of `preferred` that
neither refuses nor is wrong, and keeps the reasons of the others.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.numerics import int8
from ideogram_q8.runtime.kernels.choosing import table, traffic
from ideogram_q8.runtime.kernels.choosing.choice import Choice, first, placed, tell, trial
from ideogram_q8.runtime.kernels.choosing.operators import linear_operator
from ideogram_q8.runtime.kernels.linear import cpu, kitchen, known, tiles, triton_int8
from ideogram_q8.runtime.kernels.linear.epilogue import scaled
from ideogram_q8.runtime.kernels.linear.known import Linear
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

_log = logging.getLogger(__name__)

FEWEST_ROWS = 32
"""On CUDA fewer rows need no integer product: reading the weight is what takes the time, and whole activations are more exact."""
EXACT_ROWS = 1024
"""Rows that the definition multiplies together: so many that making float32 of the weight's codes costs little beside."""
INT_MM_ROWS = 512
"""Rows that torch._int_mm multiplies together: so many that what is made of them on the way takes less than sums of all rows would."""
SMALL_TRIAL = 64, 512, 64
"""Rows, inputs and outputs: more than two steps deep for every tile."""
_MOST_TRIAL_ROWS = 8192


@dataclass(frozen=True)
class Problem:
    """A product of floating [rows, inputs] with int8 [outputs, inputs] on a device.

    `device` is as torch prints it; `capability` is CUDA's compute capability, None elsewhere; `dtype` is that of the activations;
    `step` and `rotation` are what a `Prologue` makes the inputs by.
    """

    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    rows: int
    inputs: int
    outputs: int
    step: str = ""
    rotation: int = 0

    @property
    def shape(self) -> table.TimedShape:
        """The product's shape as the table of measurements has it."""
        dtype = str(self.dtype).removeprefix("torch.")
        return table.TimedShape(table.bucket(self.rows), self.inputs, self.outputs, dtype, self.step, self.rotation)


@dataclass(frozen=True)
class Backend:
    """One way to compute; `refuses` gives its reason or None. The definitions in plain torch are not tried against themselves."""

    name: str
    linear: Linear
    refuses: Callable[[Problem], str | None]
    is_definition: bool = False


# ---- the back ends of plain torch ----


def _int_mm_linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    """Computes INT_MM_ROWS rows or fewer at a time, in parts of about one size: prologue, quantizer and epilogue are passes of float32."""
    y = x.new_empty(len(x), len(codes))
    parts = -(-len(x) // INT_MM_ROWS)
    for part, out in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
        rows, row_scale = int8.quantize_per_token(before.apply(part))
        out.copy_(scaled(torch._int_mm(rows, codes.t()), row_scale, scale, bias, x.dtype))
    return y


def _exact_linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    """The definition. By EXACT_ROWS rows and by tiles of outputs, since its products are of float32 copies."""
    y = x.new_empty(len(x), len(codes))
    for part, out in zip(x.split(EXACT_ROWS), y.split(EXACT_ROWS), strict=True):
        rows, row_scale = int8.quantize_per_token(before.apply(part))
        step = tiles.rows_of_a_tile(len(part), len(codes), codes.shape[1])
        for start in range(0, len(codes), step):
            tile = slice(start, start + step)
            product = int8.matmul(rows, codes[tile])
            out[:, tile] = scaled(product, row_scale, scale[tile], None if bias is None else bias[tile], x.dtype)
    return y


def _dequantize_linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    return int8_weight_only_linear(before.apply(x), codes, scale, bias)


@linear_operator
def int8_weight_only_linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x [..., K] @ (codes * scale)^T + bias -> [..., N], the weight rounded once to the dtype of `x`: W8A16."""

    def expand(start: int, stop: int, out: torch.Tensor) -> None:
        torch.mul(codes[start:stop], scale[start:stop], out=out)  # in float32, rounded once; no copy in between

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
    Backend("dequantize", _dequantize_linear, _dequantize_refuses, is_definition=True),
    Backend("exact float32 chunks", _exact_linear, lambda _: None, is_definition=True),
)
"""In order of preference, but for `preferred`; the last refuses nothing."""


def preferred(problem: Problem) -> tuple[Backend, ...]:
    """BACKENDS, where those whose passes before the product are known (`traffic`) have that order among them: the fewest bytes first.

    Until `bench tune` has measured: whose product is faster on a card is not known, what is read and written before it is.
    """
    if problem.capability is None:
        return BACKENDS
    values = problem.rows * problem.inputs
    moved = {
        backend.name: found.moved
        for backend in BACKENDS
        if (found := traffic.before_product(backend.name, problem.step, problem.rotation, values, problem.dtype.itemsize))
    }
    ranked = iter(sorted((backend for backend in BACKENDS if backend.name in moved), key=lambda backend: moved[backend.name]))
    return tuple(next(ranked) if backend.name in moved else backend for backend in BACKENDS)


def self_test(backend: Backend, problem: Problem) -> str | None:
    """Why `backend` cannot be trusted on the device of `problem`, or None; tries it once for each device, dtype, prologue and shape.

    On CUDA libraries have other kernels for other shapes: there it is tried with the weight's shape and the rows of its bucket too.

    Raises:
        Exception: memory ran out.
    """
    if backend.is_definition:
        return None
    asked = backend, problem.device, problem.dtype, (problem.step, problem.rotation)
    reason = _tried(*asked, SMALL_TRIAL)
    if reason is None and problem.capability is not None:
        rows = min(table.bucket(problem.rows), _MOST_TRIAL_ROWS) - 1  # the last tile is never full
        reason = _tried(*asked, (rows, problem.inputs, problem.outputs))
    return reason


@functools.lru_cache(maxsize=1024)
def _tried(backend: Backend, device: str, dtype: torch.dtype, kind: tuple[str, int], size: tuple[int, int, int]) -> str | None:
    reason = trial(lambda: known.wrong(backend.linear, device, dtype, kind, size))
    return None if reason is None else f"self-test failed: {reason} ({size[0]} x {size[1]} -> {size[2]})"


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem, test: Callable[[Backend, Problem], str | None] = self_test) -> Choice[Backend]:
    """The back end that was measured to be the fastest, else the first, of those that take `problem` and pass `test`."""
    entry = table.find(torch.device(problem.device), problem.shape) if problem.rows >= FEWEST_ROWS else None
    fastest = None if entry is None else _working(entry.fastest, problem, test)
    broken: list[tuple[str, str]] = []

    def reason_against(backend: Backend) -> str | None:
        reason = backend.refuses(problem) or test(backend, problem)
        if reason:
            broken.append((backend.name, reason))
        if reason or entry is None or fastest in (None, backend):
            return reason
        return _slower(entry, backend.name)

    choice = first(preferred(problem), reason_against)
    _tell_once(problem, choice, tuple(broken))
    return choice


def _working(name: str | None, problem: Problem, test: Callable[[Backend, Problem], str | None]) -> Backend | None:
    found = next((backend for backend in BACKENDS if backend.name == name), None)
    if found is None or found.refuses(problem) or test(found, problem):
        return None
    return found


def _slower(entry: table.TimedEntry, name: str) -> str:
    if name not in entry.seconds:
        return f"was not measured here, and {entry.fastest} was"
    took, least = (1e6 * entry.seconds[each] for each in (name, entry.fastest or name))
    return f"took {took:,.0f} us here, {entry.fastest} {least:,.0f} us"


_told: set[tuple[object, ...]] = set()
"""Devices with the back end whose choice was told, or with refusals that were."""


def _tell_once(problem: Problem, choice: Choice[Backend], broken: tuple[tuple[str, str], ...]) -> None:
    """A refusal on CUDA is news; of few rows, which none but the last wants, only the first choice is, as everywhere else."""
    slower = problem.capability is not None and problem.rows >= FEWEST_ROWS and bool(broken)
    news = (problem.device, *broken) if slower else (problem.device, choice.backend.name)
    if news not in _told:
        _told.add(news)
        refused = broken if slower else choice.refused
        tell(_log, f"int8 linear on {problem.device}", choice.backend.name, refused, slower=slower)


# ---- the operator ----


@linear_operator
def int8_linear(
    x: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    step: str = "",
    factor: torch.Tensor | None = None,
    eps: float = 0.0,
    rotation: int = 0,
) -> torch.Tensor:
    """y = (quantize(a) @ codes^T) * scale_a * scale + bias, rounded once to the dtype of `x`, where a = prologue(x).

    Args:
        x: floating [..., K], [..., 2 K] for SwiGLU; each row of `a` gets its own scale amax/127 (`numerics.int8.quantize_per_token`).
            On CUDA fewer than FEWEST_ROWS rows are not quantized.
        codes: int8 [N, K].
        scale: float32 [N, 1].
        bias: floating [N] or None.
        step, factor, eps, rotation: of the `Prologue`.

    Returns:
        [..., N] in the dtype of `x`.
    """
    rows = x.reshape(-1, x.shape[-1])
    before = Prologue(step, factor, eps, rotation)
    choice = choose(_problem(rows, codes, before))
    return choice.backend.linear(rows, codes, scale, bias, before).reshape(*x.shape[:-1], len(codes))


def _problem(rows: torch.Tensor, codes: torch.Tensor, before: Prologue) -> Problem:
    return Problem(*placed(rows.device), rows.dtype, len(rows), codes.shape[1], len(codes), *before.kind)
