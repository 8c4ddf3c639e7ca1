"""Measures the back ends of the W8A8 linear on this device, and keeps what is fastest for each product.

All that a back end does counts: what comes before the product, quantizing, product and scales, for one call after another as a model
makes them. Back ends take turns, so that a clock that falls meanwhile falls on all of them; the median of a back end's turns is its time.
"""

from __future__ import annotations

import functools
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from ideogram_q8.errors import RequestError
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.choosing.choice import trial
from ideogram_q8.runtime.kernels.linear import triton_int8
from ideogram_q8.runtime.kernels.linear.int8 import BACKENDS, FEWEST_ROWS, Backend, Problem, choose, self_test
from ideogram_q8.runtime.kernels.linear.prologue import Prologue

_log = logging.getLogger(__name__)
SECONDS = 0.2
"""That each back end is measured for, about, beside its first calls."""
_TURNS = 5
_LEAST_CALLS, _MOST_CALLS = 1, 200
_Run = Callable[[], object]
_Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, Prologue]


def tune(
    problems: Sequence[Problem],
    seconds: float = SECONDS,
    on_entry: Callable[[Problem, table.TimedEntry], None] = lambda _problem, _entry: None,
    backends: Sequence[Backend] = BACKENDS,
) -> tuple[table.TimedEntry, ...]:
    """Measures `problems`, all on one device, keeps each entry in the cache as it is measured (`table.write`), and makes `choose` follow.

    Args:
        seconds: for each back end of a problem, about.
        on_entry: called after each problem.

    Raises:
        RequestError: no problem, several devices, or fewer than FEWEST_ROWS rows, which no integer product is for.
        ResourceError: the table cannot be written.
    """
    places = {problem.device for problem in problems}
    if len(places) != 1:
        raise RequestError(f"got problems on {len(places)} devices; expected one or more, all on one")
    few = min(problem.rows for problem in problems)
    if few < FEWEST_ROWS:
        raise RequestError(f"got {few} rows; expected at least {FEWEST_ROWS}, for fewer are not quantized")
    entries, place = [], torch.device(places.pop())
    try:
        for problem in problems:
            entries.append(measure(problem, seconds, backends))
            table.write(place, (entries[-1],))
            on_entry(problem, entries[-1])
    finally:
        choose.cache_clear()
    return tuple(entries)


def measure(problem: Problem, seconds: float = SECONDS, backends: Sequence[Backend] = BACKENDS) -> table.TimedEntry:
    """Seconds of every back end that takes `problem`, is exact and raises nothing, Triton by its fastest tiles; keeps nothing.

    Raises:
        Exception: memory ran out.
    """
    arguments = _arguments(problem)
    runs: dict[tuple[str, str | None], _Run] = {}
    for backend in backends:
        if backend.refuses(problem) or self_test(backend, problem):
            continue
        for label, run in _ways(backend, problem, arguments):
            reason = trial(functools.partial(_compiled, run, torch.device(problem.device)))
            if reason is None:
                runs[backend.name, label] = run
            else:
                shape = f"{problem.shape.rows} x {problem.inputs} -> {problem.outputs}"
                _log.warning("%s is not measured for %s: %s", f"{backend.name} {label or ''}".strip(), shape, reason)
    times = interleaved(list(runs.values()), torch.device(problem.device), seconds)
    found = dict(zip(runs, times, strict=True))
    labels = {label: took for (_, label), took in found.items() if label is not None}
    best = {name: min(took for (each, _), took in found.items() if each == name) for name, _ in found}
    return table.TimedEntry(problem.shape, best, min(labels, key=labels.__getitem__, default=None))


def _ways(backend: Backend, problem: Problem, arguments: _Arguments) -> Iterable[tuple[str | None, _Run]]:
    """How a back end may run: Triton with each of its tiles."""
    if backend.linear is not triton_int8.linear or problem.capability is None:
        yield None, functools.partial(backend.linear, *arguments)
        return
    for tiles in triton_int8.configurations(problem.capability[0]):
        yield tiles.label, functools.partial(triton_int8.linear, *arguments, tiles)


def _arguments(problem: Problem) -> _Arguments:
    """Random operands, as large as the table's shape: x, codes, scale, no bias, prologue."""
    device, shape = torch.device(problem.device), problem.shape
    generator = torch.Generator(device).manual_seed(0)
    width = problem.inputs * (2 if problem.step == "swiglu" else 1)
    x = torch.randn(shape.rows, width, generator=generator, device=device).to(problem.dtype)
    codes = torch.randint(-127, 128, (problem.outputs, problem.inputs), generator=generator, device=device, dtype=torch.int8)
    scale = torch.rand(problem.outputs, 1, generator=generator, device=device) / 127
    factor = torch.ones(problem.inputs, device=device, dtype=problem.dtype) if problem.step == "rms_norm" else None
    return x, codes, scale, None, Prologue(problem.step, factor, 1e-6, problem.rotation)


def interleaved(runs: Sequence[_Run], device: torch.device, seconds: float) -> list[float]:
    """Median seconds of a call of each, measured in turns, each for about `seconds`. Each was called before."""
    calls = []
    for run in runs:
        once = _timed(run, 1, device)
        calls.append(min(_MOST_CALLS, max(_LEAST_CALLS, round(seconds / _TURNS / max(once, 1e-7)))))
    turns = [[_timed(run, count, device) for run, count in zip(runs, calls, strict=True)] for _ in range(_TURNS)]
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def _compiled(run: _Run, device: torch.device) -> None:
    """Calls `run` for the first time; what it raises on the device comes out here."""
    run()
    _wait(device)


def _timed(run: _Run, calls: int, device: torch.device) -> float:
    """Seconds of one of `calls` calls, asked for one after the other."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
