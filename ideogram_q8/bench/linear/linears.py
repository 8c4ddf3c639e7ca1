"""`bench linear`: every product of Ideogram 4, by every way there is to compute it, against what the device does at most.

Ways take turns, so that a machine that slows down slows all of them. Activations are normal numbers; the error of a real layer, whose
inputs have outliers, is for `ablate` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ideogram_q8.bench import machine, timing
from ideogram_q8.bench.linear import operations, peer_linears
from ideogram_q8.bench.linear.linear_paths import OWN, PATHS, LinearCase, Path, Weight
from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.results import (
    FORMAT_VERSION,
    BenchProgress,
    LinearResult,
    LinearRow,
    LinearSettings,
    OnProgress,
    now,
)
from ideogram_q8.errors import IdeogramQ8Error, RequestError
from ideogram_q8.model.architecture import IDEOGRAM4, TransformerConfig
from ideogram_q8.runtime.kernels.choosing import workspace

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
"""Seconds of a first call after which a CPU makes no second one, unless the first one compiled."""
_CHECKED = 64, 256
"""Rows and outputs whose error is looked at."""


def cases(config: TransformerConfig, rows: Sequence[int], kinds: Sequence[str] | None) -> list[LinearCase]:
    """Every product with every number of rows that it sees; `kinds` of None are all.

    Raises:
        RequestError: an unknown kind.
    """
    block, others = operations.block_shapes(config), operations.other_shapes(config)
    known = [shape.kind for shape in (*block, *others)]
    for kind in kinds or ():
        if kind not in known:
            raise RequestError(f"unknown product {kind!r}; expected {', '.join(known)}")
    found = [LinearCase(shape, count) for shape in block for count in rows]
    for shape in others:
        counts = [_STEPS_AHEAD] if shape.kind in _BY_STEP else [_FEW_ROWS.get(shape.kind, max(rows))]
        found += [LinearCase(shape, count) for count in counts]
    return [case for case in found if kinds is None or case.shape.kind in kinds]


@torch.no_grad()
def measure(
    settings: LinearSettings,
    device: torch.device,
    config: TransformerConfig = IDEOGRAM4,
    paths: Sequence[Path] = PATHS,
    on_progress: OnProgress = lambda _: None,
    keep: Callable[[LinearResult], None] = lambda _: None,
) -> LinearResult:
    """Ctrl-C ends it early: the result has what was measured.

    Args:
        keep: called after each product with the result so far, marked as interrupted, so that no later fault costs it.

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

    def result() -> LinearResult:
        where = machine.machine(device), _raised(peaks, rows), tuple(clocks)
        return LinearResult(FORMAT_VERSION, "linear", started, *where, settings, tuple(rows), interrupted)

    try:
        for i, case in enumerate(chosen):
            label = f"{case.shape.kind} x {case.rows}"
            on_progress(BenchProgress(i, len(chosen), label))
            rows += _measure_case(Weight(case, pool), paths, settings.rounds, clocks)
            _release(device)
            keep(replace(result(), interrupted=True))
        peaks = machine.highest(peaks, machine.peaks(device, dtype))  # what was busy at first may be idle now
        on_progress(BenchProgress(len(chosen), len(chosen), ""))
    except KeyboardInterrupt:
        interrupted = True
    return result()


def _raised(peaks: machine.Peaks, rows: Sequence[LinearRow]) -> machine.Peaks:
    """`peaks`, where they were measured at least the fastest sample in `rows`: whatever was reached in a run, the device can do.

    Of floats that of the library's own products, which are whole products of the weight as it is; of int8 that of every way.
    """
    plain = [row for row in rows if row.path == OWN[0].name]
    integers = [row for row in rows if row.arithmetic == "int8"]
    return replace(peaks, floating=_at_least(peaks.floating, plain), int8=_at_least(peaks.int8, integers))


def _at_least(peak: machine.Peak, rows: Iterable[LinearRow]) -> machine.Peak:
    reached = [
        (row.operations / row.timing.fastest, f"{row.path}, {row.kind} x {row.rows}") for row in rows if row.timing is not None
    ]
    most = max(reached, default=(0.0, ""))
    return peak if peak.rate is None or most[0] <= peak.rate else machine.Peak(*most)


def _release(device: torch.device) -> None:
    workspace.release()
    peer_linears.forget()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _measure_case(weight: Weight, paths: Sequence[Path], rounds: int, clocks: list[machine.Clocks]) -> Iterator[LinearRow]:
    """Rows of all paths, and the card's clocks in `clocks`."""
    case, device = weight.case, weight.pool.device
    x = weight.pool.values(f"x {case}", (case.rows, case.shape.inputs), spread=1.0)
    exact = _exact(weight, x)
    ready = {path.name: _prepare(path, weight, x, exact) for path in paths}
    samples = {name: [one.first] if one.calls == 0 else [] for name, one in ready.items() if one.first is not None}
    for _ in range(rounds):
        for name, taken in samples.items():
            if ready[name].calls:
                taken.append(timing.seconds(ready[name].call, device, ready[name].calls))
    _ask(ready.values(), device, clocks)
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


def _ask(ready: Iterable[_Ready], device: torch.device, clocks: list[machine.Clocks]) -> None:
    """The clocks while the card works: at a sample of the first path there is that is not counted, for asking may outlast it."""
    busy = next((each for each in ready if each.calls), None)
    if device.type == "cuda" and busy is not None:
        timing.seconds(busy.call, device, busy.calls, meanwhile=machine.reader(device, clocks))


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
        if device.type == "cpu" and first > _SLOW and note != peer_linears.COMPILED:
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
