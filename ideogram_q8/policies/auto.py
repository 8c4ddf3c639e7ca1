"""Every Linear gets what its measured error asks for, under a budget of bytes: both branches together, or the text encoder.

What can be chosen, for Linears that see tokens: W8A8 plain or, unless the files are for readers that know no rotation, rotated, or
bfloat16; and for the Linears behind one fold point together, no smoothing or SmoothQuant at one alpha of a grid. Modulation Linears
stay bfloat16, or on request may be int8 weights alone: ComfyUI 0.33 and stable-diffusion.cpp compute those as W8A8, whatever their
marker says (comfy/ops.py dequantizes only where dtypes differ), so files for them should have none. Weight-only int8 is not offered
where tokens pass: it has the bytes of W8A8 and none of its speed. What lies outside the blocks stays bfloat16.

Errors (`policies.measurement`) are summed over Linears, and bytes go where they remove most of the sum: a greedy knapsack.
It runs twice, from the smallest choice and from the best choice that needs no more than the naive recipe, and the better
result counts. So no budget is exceeded, and from the naive recipe's size on no sum of errors is worse than its.

Rejected: an exact knapsack, which for hundreds of Linears gains less than the error of the measurement.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.model.architecture import PartName
from ideogram_q8.model.components import component
from ideogram_q8.model.schemes import LayerScheme
from ideogram_q8.numerics import smoothing
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.policies.measurement import (
    OnProgress,
    Probe,
    in_words,
    inputs_of,
    linear_bytes,
    read_weight,
    stored_bytes,
    weight_maxima,
)
from ideogram_q8.policies.paper import paper
from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import LayerPlan, Part, Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import consumers, fold_points
from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.sources import Checkpoint

ALPHAS = (0.35, 0.5, 0.65, 0.8)
ROTATION_GAIN = 10**0.05
"""A rotation costs time at every step: it is taken where it is better by half a decibel or more."""


@dataclass(frozen=True)
class Option:
    """One way to store the Linears of a group: their plans, their exponents int8 [K] if any, bytes and summed error."""

    plans: tuple[LayerPlan, ...]
    exponents: torch.Tensor | None
    size: int
    error: float


@dataclass(frozen=True)
class Group:
    """Linears that are decided together; `options` by growing size and falling error. `naive_size` is what the naive recipe takes."""

    branch: PartName
    fold: str | None
    naive_size: int
    options: tuple[Option, ...]


def make(request: PolicyRequest) -> Recipe:
    """`recipe make --policy auto`. Raises as `auto`."""
    return auto(
        request.statistics,
        request.source,
        request.budget,
        rotate=not request.no_rotation,
        weight_only=bool(request.weight_only),
        device=request.device,
        on_progress=request.on_progress,
    )


def auto(
    statistics: Statistics,
    source: Checkpoint,
    budget: int | None = None,
    *,
    rotate: bool = True,
    weight_only: bool = False,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> Recipe:
    """The recipe with the least summed error that was found within `budget` bytes of tensors, all parts together.

    Args:
        budget: None is the size of the paper's recipe.
        rotate: whether Linears may be rotated; diffusers' folders cannot hold those.
        weight_only: whether modulation Linears may be int8 weights alone, which other programs compute as W8A8.
        device: where products are computed.

    Raises:
        RequestError: not even the smallest choice fits the budget.
        ArtifactError: a Linear has no statistics.
    """
    if budget is None:
        budget = stored_bytes(paper(statistics, source, alpha=None), source)
    groups = measure(statistics, source, device, on_progress, rotate=rotate, weight_only=weight_only)
    return fit(groups, source, budget)


def naive_budget(source: Checkpoint) -> int:
    """Bytes of the naive INT8 recipe with all its Linears rotated: a rotated one has a longer marker, and the same weights."""
    naive = choose("int8", source.config)
    rotated = {linear.name for linear in component(source.config).linears if linear.in_features % GROUP == 0}

    def turned(plan: LayerPlan) -> LayerPlan:
        return replace(plan, rotation=GROUP) if plan.scheme == "w8a8" and plan.linear in rotated else plan

    parts = {name: replace(part, layers=tuple(map(turned, part.layers))) for name, part in naive.parts.items()}
    return stored_bytes(replace(naive, parts=parts), source)


def fit(groups: Sequence[Group], source: Checkpoint, budget: int) -> Recipe:
    """The recipe within `budget` bytes from groups that `measure` returned.

    Raises:
        RequestError: not even the smallest choice fits the budget.
    """
    naive = choose("int8", source.config)
    room = budget - stored_bytes(naive, source) + sum(group.naive_size for group in groups)
    smallest = [0] * len(groups)
    if _size(groups, smallest) > room:
        least = budget - room + _size(groups, smallest)
        raise RequestError(
            f"a budget of {gigabytes(budget, '.6g')} is too small: int8 takes {gigabytes(least, '.6g')} at least"
        )
    picks = spend(groups, smallest, room)
    as_naive = [max(i for i, option in enumerate(group.options) if option.size <= group.naive_size) for group in groups]
    if _size(groups, as_naive) <= room:
        picks = min(picks, spend(groups, as_naive, room), key=lambda candidate: _error(groups, candidate))
    chosen = [(group, group.options[pick]) for group, pick in zip(groups, picks, strict=True)]
    return replace(naive, policy="auto", parts={name: _part(part, name, chosen) for name, part in naive.parts.items()})


def spend(groups: Sequence[Group], start: Sequence[int], room: int) -> list[int]:
    """Takes the step that removes most error per byte, as long as one fits."""
    picks, left = list(start), room - _size(groups, start)
    while True:
        best, best_rate = None, 0.0
        for index, group in enumerate(groups):
            now = group.options[picks[index]]
            for pick in range(picks[index] + 1, len(group.options)):
                extra = group.options[pick].size - now.size
                rate = (now.error - group.options[pick].error) / extra
                if extra <= left and rate > best_rate:
                    best, best_rate = (index, pick, extra), rate
        if best is None:
            return picks
        picks[best[0]], left = best[1], left - best[2]


def _size(groups: Sequence[Group], picks: Sequence[int]) -> int:
    return sum(group.options[pick].size for group, pick in zip(groups, picks, strict=True))


def _error(groups: Sequence[Group], picks: Sequence[int]) -> float:
    return sum(group.options[pick].error for group, pick in zip(groups, picks, strict=True))


def _part(naive: Part, branch: str, chosen: Sequence[tuple[Group, Option]]) -> Part:
    own = [(group, option) for group, option in chosen if group.branch == branch]
    plans = {plan.linear: plan for _, option in own for plan in option.plans}
    folds = tuple(
        Smoothing(group.fold, smoothing.encode(option.exponents))
        for group, option in own
        if group.fold is not None and option.exponents is not None
    )
    return Part(tuple(plans.get(plan.linear, plan) for plan in naive.layers), folds)


# ---- measuring ----


def measure(
    statistics: Statistics,
    source: Checkpoint,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    *,
    rotate: bool = True,
    weight_only: bool = False,
) -> list[Group]:
    """All groups of all parts with their options measured; independent of any budget.

    Raises:
        ArtifactError: a Linear has no statistics.
    """
    bench = _Bench(statistics, source, device, _Costs(source), rotate, weight_only)
    model, folds = component(source.config), list(fold_points(source.config))
    modulations = [linear.name for linear in model.linears if linear.in_block and not linear.sees_tokens]
    places = [(part, name) for part in source.parts for name in (*folds, *modulations)]
    groups = []
    for index, (part, name) in enumerate(places):
        group = _fold_group if name in folds else _modulation_group
        groups.append(group(bench, part, name))
        if on_progress is not None:
            on_progress(index + 1, len(places))
    return groups


class _Costs:
    """Bytes of a Linear's weight by what is done to it."""

    def __init__(self, source: Checkpoint) -> None:
        naive = choose("int8", source.config)

        def all_alike(plan: LayerPlan) -> Recipe:
            return replace(naive, parts={name: _alike(part, plan) for name, part in naive.parts.items()})

        treatments: tuple[tuple[LayerScheme, int], ...] = (("w8a8", 0), ("w8a8", GROUP), ("w8a16", 0), ("bf16", 0))
        self._bytes = {
            (scheme, rotation): linear_bytes(all_alike(LayerPlan("", scheme, rotation, "")), source)
            for scheme, rotation in treatments
        }
        self._naive = linear_bytes(naive, source)

    def of(self, branch: PartName, plan: LayerPlan) -> int:
        return self._bytes[plan.scheme, plan.rotation][branch, f"{plan.linear}.weight"]

    def naive(self, branch: PartName, names: Sequence[str]) -> int:
        return sum(self._naive[branch, f"{name}.weight"] for name in names)


def _alike(part: Part, plan: LayerPlan) -> Part:
    return Part(tuple(replace(plan, linear=layer.linear) for layer in part.layers), ())


@dataclass(frozen=True)
class _Bench:
    """What is measured with, and what may be tried."""

    statistics: Statistics
    source: Checkpoint
    device: str
    costs: _Costs
    rotate: bool
    weight_only: bool

    def probe(self, branch: PartName, linear: str) -> Probe:
        sample = inputs_of(self.statistics, branch, linear).sample
        return Probe(read_weight(self.source, branch, linear), sample, self.device)


def _modulation_group(bench: _Bench, branch: PartName, name: str) -> Group:
    costs = bench.costs
    if not bench.weight_only:
        plain = LayerPlan(name, "bf16", 0, "one row per picture, int8 saves no time")
        return Group(branch, None, costs.naive(branch, [name]), (Option((plain,), None, costs.of(branch, plain), 0.0),))
    probe = bench.probe(branch, name)
    plan = LayerPlan(name, "w8a16", 0, "")
    error = probe.error(plan)
    kept = LayerPlan(name, "bf16", 0, f"protected: int8 weights alone {in_words(error)}")
    plan = replace(plan, reason=f"int8 weights alone: {in_words(error)}; one row per picture")
    options = [Option((plan,), None, costs.of(branch, plan), error), Option((kept,), None, costs.of(branch, kept), 0.0)]
    return Group(branch, None, costs.naive(branch, [name]), front(options))


@dataclass(frozen=True)
class _Measured:
    """One Linear's errors: `plain` and `rotated` (None where that cannot be) by alpha, None for no smoothing."""

    linear: str
    plain: dict[float | None, float]
    rotated: dict[float | None, float] | None

    def choices(self, alpha: float | None) -> list[tuple[LayerPlan, float]]:
        """The plans at an alpha with their errors, each with a reason that tells the figures that were compared."""
        method = "plain" if alpha is None else f"smoothed at alpha {alpha:g}"
        found = [self._choice("w8a8", 0, method, self.plain[alpha])]
        if self.rotated is not None and self.rotated[alpha] * ROTATION_GAIN <= self.plain[alpha]:
            method = "rotated" if alpha is None else f"{method} and rotated"
            found.append(self._choice("w8a8", GROUP, method, self.rotated[alpha]))
        return [*found, self._choice("bf16", 0, "protected", 0.0)]

    def _choice(self, scheme: LayerScheme, rotation: int, method: str, error: float) -> tuple[LayerPlan, float]:
        return LayerPlan(self.linear, scheme, rotation, f"{method}: {in_words(error)}; {self._figures()}"), error

    def _figures(self) -> str:
        alpha = min(ALPHAS, key=lambda a: self.plain[a])
        words = [f"plain {in_words(self.plain[None])}", f"smoothed {in_words(self.plain[alpha])} at alpha {alpha:g}"]
        if self.rotated is not None:
            words.append(f"rotated {in_words(self.rotated[None])}")
        return ", ".join(words)


def _fold_group(bench: _Bench, branch: PartName, fold: str) -> Group:
    names, costs = consumers(fold), bench.costs
    point, maxima = fold_points(bench.source.config)[fold], weight_maxima(bench.source, branch, fold)
    amax = inputs_of(bench.statistics, branch, names[0]).amax
    exponents = {alpha: smoothing.exponents(point.gather(amax), point.gather(maxima), alpha) for alpha in ALPHAS}
    columns = {alpha: point.spread(channels) for alpha, channels in exponents.items()}
    tables = [_measure(bench.probe(branch, name), name, columns, bench.rotate) for name in names]
    options = []
    for alpha in (None, *ALPHAS):
        for chosen in itertools.product(*(table.choices(alpha) for table in tables)):
            plans = tuple(plan for plan, _ in chosen)
            quantized = any(plan.scheme != "bf16" for plan in plans)
            folded = exponents[alpha] if alpha is not None and quantized else None
            size, error = sum(costs.of(branch, plan) for plan in plans), sum(error for _, error in chosen)
            options.append(Option(plans, folded, size, error))
    return Group(branch, fold, costs.naive(branch, names), front(options))


def _measure(probe: Probe, name: str, columns: dict[float, torch.Tensor], rotate: bool) -> _Measured:
    def errors(rotation: int) -> dict[float | None, float]:
        plan = LayerPlan(name, "w8a8", rotation, "")
        return {None: probe.error(plan)} | {alpha: probe.error(plan, columns[alpha]) for alpha in ALPHAS}

    rotates = rotate and probe.weight.shape[1] % GROUP == 0
    return _Measured(name, errors(0), errors(GROUP) if rotates else None)


def front(options: Sequence[Option]) -> tuple[Option, ...]:
    """Options that no other beats in size and error, smallest first; of equal ones the first given."""
    front: list[Option] = []
    for option in sorted(options, key=lambda option: (option.size, option.error)):
        if not front or option.error < front[-1].error:
            front.append(option)
    return tuple(front)
