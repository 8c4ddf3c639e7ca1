"""`bench linear`: every product of Ideogram 4, by every way there is to compute it, against what the device does at most.

Ways take turns, so that a machine that slows down slows all of them. Activations are normal numbers; the error of a real layer, whose
inputs have outliers, is for `ablate` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ideogram_q8.architecture import IDEOGRAM4, TransformerConfig
from ideogram_q8.artifact.packed import Int8Weight, Packed
from ideogram_q8.bench import machine, operations, peer_linears, timing
from ideogram_q8.bench.operations import Shape
from ideogram_q8.bench.peer_linears import Function
from ideogram_q8.bench.random_weights import FP8, Pool
from ideogram_q8.bench.results import (
    FORMAT_VERSION,
    Arithmetic,
    LinearResult,
    LinearRow,
    LinearSettings,
    OnProgress,
    Progress,
    now,
)
from ideogram_q8.errors import IdeogramQ8Error, RequestError, ResourceError
from ideogram_q8.kernels import BACKENDS, Backend, Problem, choose, workspace
from ideogram_q8.kernels.int8 import self_test
from ideogram_q8.kernels.prologue import NOTHING
from ideogram_q8.layers.packed import for_int8_compute, from_packed
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.numerics.rotation import GROUP

ROWS = {"cuda": (256, 1024, 4096, 4608), "cpu": (64,)}
"""Of activations, where tokens are rows: 1024x1024 has 4096 tokens, with a caption of 512 it has 4608."""
ROUNDS = {"cuda": 5, "cpu": 3}
KINDS = {"cuda": None, "cpu": ("attention.o", "feed_forward.w2")}
"""A CPU measures two of the products, one of each width, unless asked for more: that takes a minute or two."""
_STEPS_AHEAD, _TEXT_TOKENS = 48, 512
"""Rows of what is computed once a picture: modulation for all steps, the caption's projection."""
_FEW_ROWS = {"llm_cond_proj": _TEXT_TOKENS}
_BY_STEP = ("adaln_modulation", "t_embedding", "adaln_proj", "final_layer.adaln_modulation")
_SLOW = 2.0
"""Seconds of a first call after which a CPU, where nothing compiles for so long, makes no second one."""
_CHECKED = 64, 256
"""Rows and outputs whose error is looked at."""
_DEFINITION = BACKENDS[-1]


@dataclass(frozen=True)
class Case:
    """A product with so many rows."""

    shape: Shape
    rows: int


@dataclass(frozen=True)
class Path:
    """A way to compute. `prepare` gives the function, and a note; it raises where there is no such way here."""

    name: str
    arithmetic: Arithmetic
    prepare: Callable[[Weight], tuple[Function, str]]


@dataclass(frozen=True)
class Weight:
    """The random weight of a case, in any format."""

    case: Case
    pool: Pool

    def packed(self, scheme: str, rotation: int = 0) -> Packed:
        """In a scheme of recipes, or `fp8`, rotated or not. Raises ResourceError: the width does not allow it."""
        step = rotation or (BLOCKS[scheme].block_size if scheme in BLOCKS else 1)
        if self.case.shape.inputs % step:
            raise ResourceError(f"{self.case.shape.inputs} inputs are no multiple of {step}")
        found = self.pool.draw(self.case.shape.kind, self.case.shape.outputs, self.case.shape.inputs, scheme, rotation)
        assert not isinstance(found, torch.Tensor)
        return found

    def int8(self, rotation: int = 0) -> Int8Weight:
        """Codes and scales by row. Raises ResourceError: as `packed`."""
        found = self.packed("w8a8", rotation)
        assert isinstance(found, Int8Weight)
        return found

    def plain(self) -> torch.Tensor:
        """[outputs, inputs] in the dtype of the activations."""
        found = self.pool.draw(self.case.shape.kind, self.case.shape.outputs, self.case.shape.inputs, "bf16")
        assert isinstance(found, torch.Tensor)
        return found

    @property
    def problem(self) -> Problem:
        """As the back ends are asked."""
        device = self.pool.device
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        shape = self.case.shape
        # with its number, as tensors print it
        name = "cpu" if device.type == "cpu" else str(torch.empty(0, device=device).device)
        return Problem(name, capability, self.pool.dtype, self.case.rows, shape.inputs, shape.outputs)


def _layer(scheme: str, *, rotation: int = 0, int8_compute: bool = False) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        packed = weight.packed(scheme, rotation)
        if int8_compute:
            packed = for_int8_compute(packed, weight.pool.device)
        note = choose(weight.problem).backend.name if scheme == "w8a8" or int8_compute else ""
        return from_packed(packed), note

    return prepare


def _plain(weight: Weight) -> tuple[Function, str]:
    matrix = weight.plain()
    return (lambda x: torch.nn.functional.linear(x, matrix)), ""


def _backend(backend: Backend) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        problem = weight.problem
        reason = backend.refuses(problem) or self_test(backend, problem)
        chosen = choose(problem).backend
        if reason is None and backend is _DEFINITION and chosen is not backend:
            reason = "the definition; another is there"
        if reason is not None:
            raise ResourceError(reason)
        packed = weight.int8()
        note = "the one that runs" if chosen is backend else ""
        return (lambda x: backend.linear(x, packed.codes, packed.scale, None, NOTHING)), note

    return prepare


def _peer(convert: peer_linears.Convert) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        compiled = weight.pool.device.type == "cuda"
        return peer_linears.converted(weight.plain(), convert, compiled), "compiled" if compiled else "not compiled"

    return prepare


def _kitchen(rotation: int) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        return peer_linears.kitchen(weight.int8(rotation)), "its plain torch" if weight.pool.device.type == "cpu" else ""

    return prepare


PATHS: tuple[Path, ...] = (
    Path("not quantized", "float", _plain),
    Path("FP8, weight only", "float", _layer(FP8)),
    Path("INT8, weight only", "float", _layer("w8a16")),
    *(Path(f"INT8, {backend.name}", "int8", _backend(backend)) for backend in BACKENDS if backend.name != "dequantize"),
    Path("INT8, rotated", "int8", _layer("w8a8", rotation=GROUP)),
    Path("Q8_0", "float", _layer("q8_0")),
    Path("Q8_0, int8", "int8", _layer("q8_0", int8_compute=True)),
    Path("Q4_K", "float", _layer("q4_k")),
    Path("Q4_K, int8", "int8", _layer("q4_k", int8_compute=True)),
    Path("peer: torchao int8 dynamic", "int8", _peer(peer_linears.to_torchao)),
    Path("peer: SDNQ int8", "int8", _peer(peer_linears.to_sdnq)),
    Path("peer: comfy-kitchen", "int8", _kitchen(0)),
    Path("peer: comfy-kitchen, rotated", "int8", _kitchen(GROUP)),
)
"""All; the first is what the others are measured against."""


def cases(config: TransformerConfig, rows: Sequence[int], kinds: Sequence[str] | None) -> list[Case]:
    """Every product with every number of rows that it sees; `kinds` of None are all.

    Raises:
        RequestError: an unknown kind.
    """
    block, others = operations.block_shapes(config), operations.other_shapes(config)
    known = [shape.kind for shape in (*block, *others)]
    for kind in kinds or ():
        if kind not in known:
            raise RequestError(f"unknown product {kind!r}; expected {', '.join(known)}")
    found = [Case(shape, count) for shape in block for count in rows]
    for shape in others:
        counts = [_STEPS_AHEAD] if shape.kind in _BY_STEP else [_FEW_ROWS.get(shape.kind, max(rows))]
        found += [Case(shape, count) for count in counts]
    return [case for case in found if kinds is None or case.shape.kind in kinds]


@torch.no_grad()
def measure(
    settings: LinearSettings,
    device: torch.device,
    config: TransformerConfig = IDEOGRAM4,
    paths: Sequence[Path] = PATHS,
    on_progress: OnProgress = lambda _: None,
) -> LinearResult:
    """Ctrl-C ends it early: the result has what was measured.

    Raises:
        RequestError: an unknown kind of product.
    """
    chosen = cases(config, settings.rows, settings.kinds or None)
    started = now()
    dtype = getattr(torch, settings.dtype)
    peaks = machine.peaks(device, dtype)
    pool = Pool(settings.seed, device, dtype)
    rows: list[LinearRow] = []
    clocks: list[machine.Clocks] = []
    interrupted = False
    try:
        for i, case in enumerate(chosen):
            label = f"{case.shape.kind} x {case.rows}"
            on_progress(Progress(i, len(chosen), label))
            rows += _measure_case(Weight(case, pool), paths, settings.rounds)
            clock = machine.clocks(device)
            clocks += [] if clock is None else [clock]
            _release(device)
        on_progress(Progress(len(chosen), len(chosen), ""))
    except KeyboardInterrupt:
        interrupted = True
    return LinearResult(
        FORMAT_VERSION,
        "linear",
        started,
        machine.machine(device),
        peaks,
        tuple(clocks),
        settings,
        tuple(rows),
        interrupted,
    )


def _release(device: torch.device) -> None:
    workspace.release()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _measure_case(weight: Weight, paths: Sequence[Path], rounds: int) -> Iterator[LinearRow]:
    case, device = weight.case, weight.pool.device
    x = weight.pool.values(f"x {case}", (case.rows, case.shape.inputs), spread=1.0)
    exact = _exact(weight, x)
    ready = {path.name: _prepare(path, weight, x, exact) for path in paths}
    samples = {name: [one.first] if one.calls == 0 else [] for name, one in ready.items() if one.first is not None}
    for _ in range(rounds):
        for name, taken in samples.items():
            if ready[name].calls:
                taken.append(timing.seconds(ready[name].call, device, ready[name].calls))
    for path in paths:
        yield LinearRow(
            kind=case.shape.kind,
            outputs=case.shape.outputs,
            inputs=case.shape.inputs,
            rows=case.rows,
            path=path.name,
            arithmetic=path.arithmetic,
            operations=case.shape.operations(case.rows),
            timing=timing.Timing.of(samples[path.name]) if path.name in samples else None,
            error=ready[path.name].error,
            note=ready[path.name].note,
        )


@dataclass(frozen=True)
class _Ready:
    """A path that is to be timed by so many calls at once: none where its first call was slow enough to be all that is taken of it.

    `first` is None where it cannot be had.
    """

    call: Callable[[], object]
    calls: int
    first: float | None
    error: float | None
    note: str


def _prepare(path: Path, weight: Weight, x: torch.Tensor, exact: torch.Tensor) -> _Ready:
    try:
        function, note = path.prepare(weight)
        device = weight.pool.device
        outputs: list[torch.Tensor] = []

        def call() -> None:
            outputs[:] = [function(x)]

        first = timing.seconds(call, device)
        error = _error(outputs[0], exact)
        if device.type == "cpu" and first > _SLOW:
            return _Ready(call, 0, first, error, f"{note}; too slow for more than one call".removeprefix("; "))
        return _Ready(call, timing.calls_for(call, device), first, error, note)
    except IdeogramQ8Error as problem:
        note = str(problem)
    except Exception as problem:  # noqa: BLE001 (a library, compiler or driver that fails is a row that says so)
        note = f"failed: {type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
    return _Ready(lambda: None, 0, None, None, note)


def _exact(weight: Weight, x: torch.Tensor) -> torch.Tensor:
    """float64 of the first _CHECKED rows and outputs, with the values that every format is made from."""
    rows, outputs = _CHECKED
    matrix = weight.plain()[:outputs]
    return x[:rows].cpu().double() @ matrix.cpu().double().T


def _error(y: torch.Tensor, exact: torch.Tensor) -> float:
    rows, outputs = exact.shape
    return float((y[:rows, :outputs].cpu().double() - exact).norm() / exact.norm())
