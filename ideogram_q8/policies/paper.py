"""The method of arXiv 2606.12280 (Transformer Lab): SmoothQuant at alpha 0.5, and the most fragile Linears kept in bfloat16.

What is published: W8A8, alpha 0.5, 17 Linears per branch protected, chosen by how spiky their inputs get over the denoising steps. The
statistic itself is not; ours is the mean over tokens of a token's peak, max |x| / mean |x|, at the step where that mean is
largest. Scales are rounded to powers of two and folded at all four fold points (`ideogram_q8.recipes.folding`), so that smoothing costs
nothing and is exact. Modulation Linears stay as in the naive recipe. Either half can be left out, which gives the published
ablation. Of a model with another number of blocks than Ideogram 4's 34, the same share is protected unless a number is
given. The paper leaves the text encoder alone; here it gets the same treatment, with one step: it reads a caption once.
"""

from __future__ import annotations

from dataclasses import replace

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import IDEOGRAM4, PartName
from ideogram_q8.model.components import Dimensions
from ideogram_q8.numerics import smoothing
from ideogram_q8.policies.measurement import inputs_of, token_linears, weight_maxima
from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import LayerPlan, Part, Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import consumers, fold_points
from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.sources import Checkpoint

ALPHA = 0.5
PROTECTED = 17
"""Linears per branch of Ideogram 4."""


def make(request: PolicyRequest) -> Recipe:
    """`recipe make --policy paper`. Raises as `paper`."""
    alpha = ALPHA if request.alpha is None else request.alpha
    return paper(request.statistics, request.source, alpha, request.protect)


def paper(
    statistics: Statistics, source: Checkpoint, alpha: float | None = ALPHA, protect: int | None = None, policy: str = "paper"
) -> Recipe:
    """The recipe of the paper's method.

    Args:
        alpha: SmoothQuant's share of the difficulty that goes into the weights; None smooths nothing.
        protect: how many Linears of each branch stay bfloat16; None is the published share.
        policy: the recipe's name.

    Raises:
        RequestError: alpha or `protect` is out of range.
        ArtifactError: a Linear has no statistics.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise RequestError(f"alpha is {alpha}; expected 0 to 1")
    protect = proportional(PROTECTED, source.config) if protect is None else protect
    count = len(token_linears(source))
    if not 0 <= protect <= count:
        raise RequestError(f"protect is {protect}; expected 0 to {count}, the Linears of a branch that see tokens")
    naive = choose("int8", source.config)
    parts: dict[str, Part] = {
        branch: _part(naive.parts[branch], statistics, source, branch, alpha, protect) for branch in source.parts
    }
    return replace(naive, policy=policy, parts=parts)


def proportional(published: int, config: Dimensions) -> int:
    """Number of a branch's Linears that corresponds to `published` of Ideogram 4's, by the number of blocks; at least one."""
    return max(1, round(published * config.num_layers / IDEOGRAM4.num_layers))


def _part(naive: Part, statistics: Statistics, source: Checkpoint, branch: PartName, alpha: float | None, protect: int) -> Part:
    order = fragile_first(statistics, source, branch)
    protected = {name for name, _, _ in order[:protect]}
    method = "plain" if alpha is None else f"smoothed at alpha {alpha:g}"
    reasons = {}
    for rank, (name, peak, step) in enumerate(order, 1):
        how = "protected" if name in protected else method
        reasons[name] = f"{how}: token peaks {peak:.1f} at step {step}, rank {rank} of {len(order)}"
    layers = tuple(
        replace(plan, scheme="bf16" if plan.linear in protected else plan.scheme, reason=reasons.get(plan.linear, plan.reason))
        for plan in naive.layers
    )
    return Part(layers, () if alpha is None else _smoothing(layers, statistics, source, branch, alpha))


def _smoothing(
    layers: tuple[LayerPlan, ...], statistics: Statistics, source: Checkpoint, branch: PartName, alpha: float
) -> tuple[Smoothing, ...]:
    """Smoothing exponents of every fold point that feeds a quantized Linear."""
    quantized = {plan.linear for plan in layers if plan.scheme != "bf16"}
    found = []
    for fold, point in fold_points(source.config).items():
        if quantized.isdisjoint(consumers(fold)):
            continue
        amax = inputs_of(statistics, branch, consumers(fold)[0]).amax
        maxima = weight_maxima(source, branch, fold)
        exponents = smoothing.exponents(point.gather(amax), point.gather(maxima), alpha)
        found.append(Smoothing(fold, smoothing.encode(exponents)))
    return tuple(found)


def fragile_first(statistics: Statistics, source: Checkpoint, branch: PartName) -> list[tuple[str, float, int]]:
    """(Linear, peak, step counted from 1) of those that see tokens: the largest mean peak of any step first, else in model order."""
    peaks = []
    for name in token_linears(source):
        means = inputs_of(statistics, branch, name).step_peak_mean
        peaks.append((name, means.max().item(), int(means.argmax()) + 1))
    return sorted(peaks, key=lambda item: -item[1])
