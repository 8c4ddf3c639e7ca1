"""`bench denoise`: a step of Ideogram 4 at its real width, by every variant of ours and every way of others that is installed.

The weights are random, so no gated file is needed; speed and memory do not depend on their values. Variants take turns, one in memory at
a time, so that whatever else the machine does hits all alike and each may use all of the memory; each turn builds its variant
anew. A variant that cannot be had is a row that says why.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ideogram_q8.bench import machine, timing
from ideogram_q8.bench.linear import peer_linears
from ideogram_q8.bench.linear.operations import PRESET
from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.picture import meter
from ideogram_q8.bench.picture.own import VARIANTS as OWN
from ideogram_q8.bench.picture.peers import PEERS
from ideogram_q8.bench.picture.scene import BenchVariant, Built, StepScene
from ideogram_q8.bench.results import (
    FORMAT_VERSION,
    UNQUANTIZED,
    Arithmetic,
    BenchProgress,
    DenoiseResult,
    DenoiseRow,
    DenoiseSettings,
    OnProgress,
    StepPart,
    now,
)
from ideogram_q8.errors import IdeogramQ8Error, RequestError
from ideogram_q8.model.architecture import IDEOGRAM4, SIDE_MULTIPLE, TransformerConfig
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.runtime.memory import usage

VARIANTS: Mapping[str, BenchVariant] = {variant.name: variant for variant in (*OWN, *PEERS)}
CAP = 24 * 10**9
"""Bytes that a larger card is held to unless asked otherwise: those of the card that all of this is for."""
NOT_REACHED = "not reached"
"""The note of a variant that a run ended before."""
_LARGEST_SIDE = 4096


@dataclass
class _Measured:
    """What is known of a variant so far."""

    samples: list[float] = field(default_factory=list)
    parts: tuple[StepPart, ...] = ()
    peak: int | None = None
    predicted: int | None = None
    streamed: tuple[str, ...] = ()
    arithmetic: Arithmetic | None = None
    velocity: torch.Tensor | None = None
    note: str = ""
    failed: bool = False
    spent: float = 0.0


@torch.no_grad()
def measure(
    settings: DenoiseSettings,
    device: torch.device,
    config: TransformerConfig = IDEOGRAM4,
    on_progress: OnProgress = lambda _: None,
    keep: Callable[[DenoiseResult], None] = lambda _: None,
) -> DenoiseResult:
    """Ctrl-C ends it early: the result has what was measured.

    Args:
        config: but for its layers, of which `settings` has the number.
        keep: called after each turn with the result so far, marked as interrupted, so that no later fault costs it.

    Raises:
        RequestError: an unknown variant, a size that is none, or a memory cap without CUDA.
    """
    chosen = _check(settings, device)
    started = now()
    dtype = getattr(torch, settings.dtype)
    peaks = machine.peaks(device, dtype)
    _release(device)
    pool = Pool(settings.seed, device, dtype)
    scene = StepScene(settings, replace(config, num_layers=settings.layers), pool, _available(device, settings.memory_cap))
    scene.draw()
    found = {variant.name: _Measured() for variant in chosen}
    clocks: list[machine.Clocks] = []
    interrupted = False

    def result() -> DenoiseResult:
        return DenoiseResult(
            FORMAT_VERSION,
            "denoise",
            started,
            machine.machine(device),
            peaks,
            tuple(clocks),
            settings,
            scene.operations,
            meter.name(device),
            tuple(_rows(chosen, found)),
            interrupted,
        )

    try:
        with capped(device, settings.memory_cap):
            _take_turns(chosen, scene, found, clocks, on_progress, lambda: keep(replace(result(), interrupted=True)))
    except KeyboardInterrupt:
        interrupted = True
    _release(device)
    return result()


def _take_turns(
    chosen: Sequence[BenchVariant],
    scene: StepScene,
    found: Mapping[str, _Measured],
    clocks: list[machine.Clocks],
    on_progress: OnProgress,
    after: Callable[[], None],
) -> None:
    """Measures every variant once a round, in turn; calls `after` at the end of each turn."""
    turns = [(variant, number) for number in range(scene.settings.rounds) for variant in chosen]
    for i, (variant, number) in enumerate(turns):
        on_progress(BenchProgress(i, len(turns), f"{variant.name}, round {number + 1}"))
        _turn(variant, scene, found[variant.name], clocks)
        after()
    on_progress(BenchProgress(len(turns), len(turns), ""))


def default_cap(device: torch.device) -> int | None:
    """CAP on a card that has more, for `DenoiseSettings.memory_cap`; None elsewhere."""
    if device.type != "cuda":
        return None
    return CAP if torch.cuda.get_device_properties(device).total_memory > CAP else None


def _check(settings: DenoiseSettings, device: torch.device) -> list[BenchVariant]:
    for name in settings.variants:
        if name not in VARIANTS:
            raise RequestError(f"unknown variant {name!r}; expected {', '.join(VARIANTS)}")
    for side in (settings.width, settings.height):
        if not SIDE_MULTIPLE <= side <= _LARGEST_SIDE or side % SIDE_MULTIPLE:
            raise RequestError(f"a side is {side}; expected multiples of {SIDE_MULTIPLE} up to {_LARGEST_SIDE}")
    if not 1 <= settings.steps < PRESET.steps:
        raise RequestError(f"got {settings.steps} steps a round; expected 1 to {PRESET.steps - 1}")
    if settings.memory_cap is not None and device.type != "cuda":
        raise RequestError("a memory cap needs CUDA, whose allocator keeps to it; leave it out")
    return [VARIANTS[name] for name in dict.fromkeys(settings.variants)]


def _available(device: torch.device, cap: int | None) -> int:
    free = usage.available_bytes(device)
    return free if cap is None else min(free, cap)


@contextlib.contextmanager
def capped(device: torch.device, cap: int | None) -> Iterator[None]:
    """torch refuses to allocate more than `cap` bytes of the device."""
    if cap is None:
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    index = torch.cuda.current_device() if device.index is None else device.index  # torch takes no card without a number here
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total), index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


def _turn(variant: BenchVariant, scene: StepScene, found: _Measured, clocks: list[machine.Clocks]) -> None:
    """One round of a variant; whatever goes wrong with it becomes its note. The card's clocks go to `clocks`."""
    if found.failed or found.spent > scene.settings.patience:
        return
    try:
        _measure(variant, scene, found, clocks)
    except IdeogramQ8Error as error:
        found.failed, found.note = True, str(error)
    except ModuleNotFoundError as error:
        found.failed, found.note = True, f"{error.name} is not installed"
    except Exception as error:  # noqa: BLE001 (other people's programs, compilers and drivers; the row says what happened)
        found.failed, found.note = True, f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:300]
    _release(scene.device)


def _measure(variant: BenchVariant, scene: StepScene, found: _Measured, clocks: list[machine.Clocks]) -> None:
    device, taken = scene.device, meter.Meter(scene.pool)
    built = taken.build(lambda: _built(variant, scene))
    found.predicted, found.streamed, found.note = built.predicted_bytes, built.streamed, built.note
    found.arithmetic = built.arithmetic
    first = taken.first_step(lambda: timing.seconds(lambda: _remember(built, found), device), built.compiles)
    found.spent += first
    if device.type == "cpu" and not built.compiles and first > scene.settings.patience:
        found.samples.append(first)
        found.peak = taken.peak
        found.note = f"{built.note}; too slow for more than one step".removeprefix("; ")
        return
    found.samples += taken.steps(lambda: _timed(built, scene, clocks))
    found.peak = taken.peak
    found.spent += sum(found.samples[-scene.settings.steps :])
    if not found.parts:
        found.parts = built.parts()


def _timed(built: Built, scene: StepScene, clocks: list[machine.Clocks]) -> list[float]:
    """Seconds of each step; the clocks are read while the card works at the last one."""
    ask, last = machine.reader(scene.device, clocks), scene.settings.steps
    return [
        timing.seconds(lambda i=i: built.step(i), scene.device, meanwhile=ask if i == last else lambda: None)  # type: ignore[misc]
        for i in range(1, last + 1)
    ]


def _built(variant: BenchVariant, scene: StepScene) -> Built:
    found = variant.build(scene)
    gc.collect()  # what building left behind
    return found


def _remember(built: Built, found: _Measured) -> None:
    """The step that does not count: it compiles, fills caches, and its velocity is compared."""
    velocity = built.step(0).float()
    if found.velocity is None:
        found.velocity = velocity.cpu()


def _release(device: torch.device) -> None:
    workspace.release()
    peer_linears.forget()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _rows(chosen: Sequence[BenchVariant], found: Mapping[str, _Measured]) -> Iterator[DenoiseRow]:
    reference = found[UNQUANTIZED].velocity if UNQUANTIZED in found else None
    for variant in chosen:
        measured = found[variant.name]
        yield DenoiseRow(
            variant=variant.name,
            label=variant.label,
            peer=variant.peer,
            arithmetic=measured.arithmetic or variant.arithmetic,
            timing=timing.Timing.of(measured.samples) if measured.samples else None,
            parts=measured.parts,
            peak_bytes=measured.peak,
            predicted_bytes=measured.predicted,
            streamed=measured.streamed,
            error=_distance(measured.velocity, reference),
            note=measured.note or ("" if measured.samples else NOT_REACHED),
        )


def _distance(velocity: torch.Tensor | None, reference: torch.Tensor | None) -> float | None:
    if velocity is None or reference is None:
        return None
    return float((velocity - reference).norm() / reference.norm())
