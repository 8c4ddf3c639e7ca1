"""The W8A8 linear: activations quantized per row at run time, an exact int32 product, both scales applied in float32.

Back ends differ in speed, not in meaning. Each states what it refuses as data, and is tried once on numbers whose results are
known; `choose` takes the one that was measured to be the fastest on this device (`tuning`), else the first that neither refuses nor is
wrong, and keeps the reasons of the others.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.kernels import cpu, kitchen, table, tiles, triton_int8
from ideogram_q8.kernels.choice import Choice, first, placed
from ideogram_q8.kernels.epilogue import scaled
from ideogram_q8.kernels.operators import linear_operator
from ideogram_q8.kernels.prologue import Prologue
from ideogram_q8.numerics import int8

_log = logging.getLogger(__name__)

FEWEST_ROWS = 32
"""Fewer rows need no integer product: reading the weight is what takes the time, and whole activations are more exact."""
EXACT_ROWS = 1024
"""Rows that the definition multiplies together: so many that making float32 of the weight's codes costs little beside."""
_SELF_TEST_INPUTS = 512
"""More than two steps deep for every tile, and sums below 2^24, which float32 holds exactly."""


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
    def shape(self) -> table.Shape:
        """As the table of measurements has it."""
        dtype = str(self.dtype).removeprefix("torch.")
        return table.Shape(table.bucket(self.rows), self.inputs, self.outputs, dtype, self.step, self.rotation)


Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, Prologue], torch.Tensor]
"""(x [M, K], [M, 2 K] for SwiGLU, codes int8 [N, K], scale float32 [N, 1], bias [N] or None, what is done to x first)
-> [M, N] in the dtype of x."""


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
    rows, row_scale = int8.quantize_per_token(before.apply(x))
    return scaled(torch._int_mm(rows, codes.t()), row_scale, scale, bias, x.dtype)


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
"""In order of preference; the last refuses nothing."""


def self_test(backend: Backend, problem: Problem) -> str | None:
    """Why `backend` cannot be trusted on the device of `problem`, or None; tries it once for each device, dtype and prologue."""
    if backend.is_definition:
        return None
    return _tried(backend, problem.device, problem.dtype, problem.step, problem.rotation)


@functools.lru_cache(maxsize=256)
def _tried(backend: Backend, device: str, dtype: torch.dtype, step: str, rotation: int) -> str | None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (64, _SELF_TEST_INPUTS), generator=generator, dtype=torch.int8) for _ in range(2))
    a[0], b[0], b[1] = 127, 127, -127  # the largest sums of both signs, where 16-bit sums would saturate
    a[:, -1] = 127  # every row has scale 1
    x, before, a = _known_input(a, step, rotation)
    ones = torch.ones(64, 1)
    expected = int8.matmul(a, b).to(dtype)
    factor = None if before.factor is None else before.factor.to(device, dtype)
    try:
        there = Prologue(step, factor, before.eps, rotation)
        y = backend.linear(x.to(device, dtype), b.to(device), ones.to(device), None, there).cpu()
    except Exception as error:  # noqa: BLE001 (compilers and drivers, which are not ours; the reason is shown)
        return f"self-test failed: {type(error).__name__}: {error}"[:300]
    wrong = int((y != expected).sum()) if y.shape == expected.shape else expected.numel()
    return f"self-test failed: {wrong} of {expected.numel()} sums are wrong" if wrong else None


def _known_input(a: torch.Tensor, step: str, rotation: int) -> tuple[torch.Tensor, Prologue, torch.Tensor]:
    """Rows, a prologue, and the codes int8 [M, K] that it makes of them in every floating dtype and order of sums; made of codes `a`.

    Signs have mean square 1, so that a norm leaves them alone and its factor is what counts. silu(32) is 32. A group of equal
    magnitudes is the rotation of a group with a single value.
    """
    if step == "rms_norm":
        a = torch.where(a < 0, -1, 1).to(torch.int8) * a[1].abs()
    if rotation:
        groups = a.view(len(a), -1, rotation)
        each = torch.arange(groups.shape[1])
        alone = torch.zeros_like(groups)
        alone[:, each, each * 37 % rotation] = groups[:, :, -1]
        a = alone.view_as(a)
    x = Prologue(rotation=rotation).apply(a.float())
    if step == "swiglu":
        return torch.cat([torch.full_like(x, 32.0), x / 32], -1), Prologue(step, rotation=rotation), a
    if step == "rms_norm":
        return torch.where(x < 0, -1.0, 1.0), Prologue(step, x[1].abs(), rotation=rotation), a
    return x, Prologue(rotation=rotation), a


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem, test: Callable[[Backend, Problem], str | None] = self_test) -> Choice[Backend]:
    """The back end that was measured to be the fastest, else the first, of those that take `problem` and pass `test`."""
    entry = table.find(torch.device(problem.device), problem.shape) if problem.rows >= FEWEST_ROWS else None
    fastest = None if entry is None else _working(entry.fastest, problem, test)

    def reason_against(backend: Backend) -> str | None:
        reason = backend.refuses(problem) or test(backend, problem)
        if reason or entry is None or fastest in (None, backend):
            return reason
        return _slower(entry, backend.name)

    choice = first(BACKENDS, reason_against)
    _log_once(problem.device, choice)
    return choice


def _working(name: str | None, problem: Problem, test: Callable[[Backend, Problem], str | None]) -> Backend | None:
    found = next((backend for backend in BACKENDS if backend.name == name), None)
    if found is None or found.refuses(problem) or test(found, problem):
        return None
    return found


def _slower(entry: table.Entry, name: str) -> str:
    if name not in entry.seconds:
        return f"was not measured here, and {entry.fastest} was"
    took, least = (1e6 * entry.seconds[each] for each in (name, entry.fastest or name))
    return f"took {took:,.0f} us here, {entry.fastest} {least:,.0f} us"


_logged: set[tuple[str, str]] = set()
"""Devices and back ends whose choice was told; the reasons may name numbers of rows, the next choice is no news."""


def _log_once(device: str, choice: Choice[Backend]) -> None:
    if (device, choice.backend.name) not in _logged:
        _logged.add((device, choice.backend.name))
        _log.info("int8 linear on %s: %s", device, choice)


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
