"""`bench project`: what a measurement on one card says about another, with every assumption written down. It replaces no measurement.

Each kind of work keeps its efficiency: the share of the card's peak that it reached. On the target it takes

    seconds = operations / (efficiency * reach * the target's public rate)

where `efficiency` is relative to the peak that was measured on the card, and `reach` is how much of its public rate that peak was. What
is left of a step beside its products and attention (norms, quantizing, gates) reads and writes memory: it is carried over by
bandwidth.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.bench.cards import Card, known
from ideogram_q8.bench.linear.operations import ATTENTION, PRESET
from ideogram_q8.bench.machine import Peaks
from ideogram_q8.bench.results import Arithmetic, DenoiseResult, DenoiseRow, DenoiseSettings, LinearResult, Result, StepPart
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.model.architecture import IDEOGRAM4, SIDE_MULTIPLE
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.runtime.kernels.choosing import traffic

REST = "rest"
SUSTAINED = 0.85
"""Of a card's public bandwidth, that long passes reach: 800 of 936 GB/s on an RTX 3090. An assumption."""


@dataclass(frozen=True)
class StepShare:
    """One kind of work: its efficiency where it was measured, None where its peak was not, and seconds there and on the target."""

    kind: str
    arithmetic: Arithmetic
    efficiency: float | None
    measured: float
    projected: float


@dataclass(frozen=True)
class ProjectedRow:
    """Seconds of a step or of a product, where they were measured and on the target; `floor` is the target's at its public rates."""

    name: str
    measured: float
    projected: float
    floor: float
    shares: tuple[StepShare, ...]
    note: str


@dataclass(frozen=True)
class Projection:
    """`picture_steps` steps make a picture, 0 where products were measured."""

    action: Literal["project"]
    card: str
    measured_on: str
    picture_steps: int
    rows: tuple[ProjectedRow, ...]
    assumptions: tuple[str, ...]
    passes: tuple[Passes, ...] = ()


@dataclass(frozen=True)
class Passes:
    """What a W8A8 step of Ideogram 4 moves between its products (`kernels.traffic`): bytes, launches, and seconds on the target."""

    name: str
    moved: int
    launches: int
    seconds: float


@dataclass(frozen=True)
class Carrier:
    """From the machine of a result to a card."""

    peaks: Peaks
    origin: Card | None
    target: Card

    def efficiency(self, part: StepPart) -> float | None:
        """The share of the measured peak that a part reached."""
        peak = self.peaks.of(part.arithmetic)
        return None if peak is None or not part.seconds else part.operations / part.seconds / peak

    def seconds(self, part: StepPart) -> float:
        """Seconds of a part on the target. Raises RequestError: the peak of the part was not measured."""
        efficiency, peak = self.efficiency(part), self.peaks.of(part.arithmetic)
        if efficiency is None or peak is None:
            raise RequestError(f"the {part.arithmetic} peak was not measured ({self.peaks.int8.by}); measure again")
        reach = 1.0 if self.origin is None else peak / self.origin.rate(part.arithmetic)
        return part.operations / (efficiency * reach * self.target.rate(part.arithmetic))

    def moved(self, seconds: float) -> float:
        """Seconds on the target of work that reads and writes memory."""
        source = self.peaks.bytes_rate if self.origin is None else self.origin.bytes_rate
        return seconds * source / self.target.bytes_rate

    def floor(self, parts: tuple[StepPart, ...]) -> float:
        """Seconds of all parts on the target at its public rates."""
        return sum(part.operations / self.target.rate(part.arithmetic) for part in parts)


def project(result: Result, target: Card) -> Projection:
    """Raises RequestError: a result that cannot be carried over, as one from a CPU."""
    machine = result.machine
    if machine.device != "cuda":
        raise RequestError(
            f"measured on a CPU ({machine.name}): what it reaches of its peak says nothing about a card's kernels, so nothing can be "
            f"carried over to the {target.name}; run `bench denoise --device cuda` on an NVIDIA card"
        )
    if not isinstance(result, LinearResult | DenoiseResult):
        raise RequestError(
            "loading depends on disk and bus, not on the card; give what `bench denoise` or `bench linear` wrote"
        )
    carrier = Carrier(result.peaks, known(machine.name), target)
    rows = _products(result, carrier) if isinstance(result, LinearResult) else _steps(result, carrier)
    steps = PRESET.steps if isinstance(result, DenoiseResult) else 0
    passes = tuple(_passes(result.settings, target)) if isinstance(result, DenoiseResult) else ()
    return Projection("project", target.name, machine.name, steps, tuple(rows), tuple(assumptions(carrier)), passes)


def _passes(settings: DenoiseSettings, target: Card) -> Iterator[Passes]:
    """Memory traffic of all layers and both branches, a row a back end of the products, at SUSTAINED of the target's bandwidth."""
    image = settings.width * settings.height // SIDE_MULTIPLE**2
    for backend, rotation in itertools.product((traffic.KITCHEN, traffic.TRITON), (0, GROUP)):
        branches = [
            traffic.of_a_block(backend, rotation, IDEOGRAM4, tokens) for tokens in (image + settings.text_tokens, image)
        ]
        moved = IDEOGRAM4.num_layers * sum(each.moved for each in branches if each)
        launches = IDEOGRAM4.num_layers * sum(each.launches for each in branches if each)
        name = f"{backend}{', rotated' if rotation else ''}"
        yield Passes(name, moved, launches, moved / (SUSTAINED * target.bytes_rate))


def _products(result: LinearResult, carrier: Carrier) -> Iterator[ProjectedRow]:
    for row in result.rows:
        if row.timing is not None:
            part = StepPart(row.kind, row.arithmetic, row.operations, row.timing.median)
            share = _share(part, carrier)
            name = f"{row.kind} x {row.rows}, {row.path}"
            yield ProjectedRow(name, share.measured, share.projected, carrier.floor((part,)), (share,), row.note)


def _steps(result: DenoiseResult, carrier: Carrier) -> Iterator[ProjectedRow]:
    for row in result.rows:
        if row.timing is not None:
            parts = row.parts or _whole(row, result)
            shares = [_share(part, carrier) for part in _fitted(parts, row.timing.median)]
            rest = max(0.0, row.timing.median - sum(share.measured for share in shares))
            if row.parts:
                shares.append(StepShare(REST, "float", None, rest, carrier.moved(rest)))
            projected = sum(share.projected for share in shares)
            yield ProjectedRow(row.label, row.timing.median, projected, carrier.floor(parts), tuple(shares), row.note)


def _share(part: StepPart, carrier: Carrier) -> StepShare:
    return StepShare(part.kind, part.arithmetic, carrier.efficiency(part), part.seconds, carrier.seconds(part))


def _whole(row: DenoiseRow, result: DenoiseResult) -> tuple[StepPart, ...]:
    """A step whose parts are not known: its products and its attention at one efficiency."""
    kinds: list[tuple[str, Arithmetic]] = [(kind, row.arithmetic) for kind in result.operations]
    kinds = [(kind, "float" if kind in (ATTENTION, "outside") else arithmetic) for kind, arithmetic in kinds]
    rates = {arithmetic: rate for _, arithmetic in kinds if (rate := result.peaks.of(arithmetic)) is not None}
    ideal = [
        StepPart(kind, arithmetic, result.operations[kind], result.operations[kind] / rates[arithmetic])
        for kind, arithmetic in kinds
        if arithmetic in rates
    ]
    assert row.timing is not None
    factor = row.timing.median / sum(part.seconds for part in ideal)
    return tuple(StepPart(part.kind, part.arithmetic, part.operations, factor * part.seconds) for part in ideal)


def _fitted(parts: tuple[StepPart, ...], seconds: float) -> tuple[StepPart, ...]:
    """Parts measured alone may take longer than in the step, where kernels fuse: then all are shortened alike."""
    total = sum(part.seconds for part in parts)
    factor = min(1.0, seconds / total)
    return tuple(StepPart(part.kind, part.arithmetic, part.operations, factor * part.seconds) for part in parts)


def assumptions(carrier: Carrier) -> Iterator[str]:
    """What the projection takes for granted."""
    target, origin = carrier.target, carrier.origin
    yield (
        f"{target.name}: {target.float_rate / 1e12:.0f} TFLOPS of bfloat16 with float32 sums, {target.int8_rate / 1e12:.0f} TOPS of int8, "
        f"{gigabytes(target.bytes_rate, '.0f')}/s, dense, at its boost clock (whitepaper); a power limit may keep it below"
    )
    if origin is None:
        yield f"the {target.name} reaches these rates on its easiest product as fully as the measured card was taken to: optimistic"
    else:
        yield f"the {target.name} reaches the same share of its public rates as the {origin.name} did of its own"
    yield "every product and attention keep their share of the peak; kernels are tuned for one card, so theirs may change either way"
    yield (
        "of attention with int8 scores half are products of int8, half of float16, whose sums are float16's on cards where that is faster "
        f"({target.half_rate / 1e12:.0f} TFLOPS on the {target.name}); comfy-kitchen's are all of int8"
    )
    yield "what is left of a step moves memory at the same share of the bandwidth; launching kernels is hidden on both"
    yield "a variant whose parts are not known (others' programs) keeps one efficiency for all of its step"
    yield "weights that are streamed arrive in time; whether the variant fits the card's memory is for `doctor` to say"
