"""How far a treatment moves a Linear's output: measured on inputs that calibration kept, with the layer that will run.

The error of a token is |y' - y|^2 / |y|^2, y being the float32 product with the source's own weight; a Linear's error is the mean
over its tokens. Tokens count alike, large or small, because what follows normalises each for itself: `attention_norm2` and
`ffn_norm2` the outputs of o and w2, `norm_q` and `norm_k` those of q and k (diffusers' transformer_ideogram4.py). The signal-to-noise
ratio is that error in decibels. A row scaled by a fold has the error of the unscaled one, so producers are measured unscaled.

Not seen here: how errors add up over layers and steps, and what they do to a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from ideogram_q8.builds import layout
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.model.architecture import PartName
from ideogram_q8.model.components import component
from ideogram_q8.model.schemes import INT8_SCHEMES
from ideogram_q8.numerics import smoothing
from ideogram_q8.recipes import LayerPlan, Recipe, fold_of
from ideogram_q8.recipes.folding import consumers, fold_points
from ideogram_q8.recipes.statistics import LinearStatistics, Statistics
from ideogram_q8.runtime.layers.packed import from_packed
from ideogram_q8.sources import Checkpoint

OnProgress = Callable[[int, int], None]
"""Called with how many measurements are done, and how many there are."""


class Probe:
    """One Linear's weight and sampled inputs on a device, to be treated in several ways."""

    def __init__(self, weight: torch.Tensor, inputs: torch.Tensor, device: str | torch.device = "cpu") -> None:
        """`weight` bfloat16 [N, K], `inputs` float32 [S, K]; rows of zeros say nothing and are left out."""
        self.weight = weight.to(device)
        self.inputs = inputs[inputs.abs().amax(1) > 0].to(device)
        self.exact = functional.linear(self.inputs, self.weight.float())

    def error(self, plan: LayerPlan, exponents: torch.Tensor | None = None) -> float:
        """The mean error of tokens under a plan and the exponents int8 [K] that are folded into the columns; 0 is exact."""
        signal = self.exact.square().sum(1, dtype=torch.float64)
        heard = signal > 0
        if plan.scheme not in INT8_SCHEMES or not heard.any():
            return 0.0
        weight, inputs = self.weight, self.inputs
        if exponents is not None:
            weight, inputs = smoothing.scale_columns(weight, exponents), smoothing.scale_columns(inputs, -exponents)
        codes, scale, _ = layout.pack(weight, plan, "bf16")
        layer = from_packed(Int8Weight(codes, scale, plan.rotation, plan.scheme == "w8a16"))
        noise = (layer(inputs) - self.exact).square().sum(1, dtype=torch.float64)
        return (noise / signal)[heard].mean().item()


def decibels(error: float) -> float | None:
    """The signal-to-noise ratio of a mean error; None where the output is exact."""
    return None if error == 0 else -10 * math.log10(error)


def in_words(error: float) -> str:
    """`38.2 dB`, or `exact`."""
    ratio = decibels(error)
    return "exact" if ratio is None else f"{ratio:.1f} dB"


def inputs_of(statistics: Statistics, branch: PartName, linear: str) -> LinearStatistics:
    """Raises ArtifactError: the Linear has no statistics."""
    entry = statistics.get(branch, linear)
    if entry is None:
        raise ArtifactError(f"statistics: {branch} {linear} is missing; calibrate this model, or merge all parts")
    return entry


def read_weight(source: Checkpoint, branch: PartName, linear: str) -> torch.Tensor:
    """bfloat16 [N, K]. Raises SourceError: it holds NaN or infinity, which no error can be measured with."""
    reader = source.branch(branch)
    weight = reader.read(f"{linear}.weight")
    if not weight.isfinite().all():
        raise SourceError(
            f"{reader.path}: {linear}.weight has values that are NaN or infinite; check or download the source again"
        )
    return weight


def weight_maxima(source: Checkpoint, branch: PartName, fold: str) -> torch.Tensor:
    """float32 [K]: the largest |w| of each column over all Linears whose columns a fold point scales, one in memory at a time."""
    maxima = [read_weight(source, branch, linear).abs().amax(0).float() for linear in consumers(fold)]
    return torch.stack(maxima).amax(0)


def recipe_errors(
    recipe: Recipe, statistics: Statistics, source: Checkpoint, *, device: str = "cpu", on_progress: OnProgress | None = None
) -> dict[PartName, dict[str, float]]:
    """The error of every Linear that has statistics, under an int8 recipe; 0 where it is kept."""
    parts = source.parts
    found: dict[PartName, dict[str, float]] = {name: {} for name in parts}
    places = [(branch, plan) for branch in parts for plan in recipe.parts[branch].layers]
    for index, (branch, plan) in enumerate(places, 1):
        entry = statistics.get(branch, plan.linear)
        if entry is not None:
            exact = plan.scheme not in INT8_SCHEMES
            found[branch][plan.linear] = 0.0 if exact else _plan_error(recipe, source, branch, plan, entry.sample, device)
        if on_progress is not None:
            on_progress(index, len(places))
    return found


def _plan_error(
    recipe: Recipe, source: Checkpoint, branch: PartName, plan: LayerPlan, inputs: torch.Tensor, device: str
) -> float:
    texts = {item.fold: item.exponents for item in recipe.parts[branch].smoothing}
    fold = fold_of(plan.linear) or ""
    exponents = None
    if fold in texts:
        point = fold_points(source.config)[fold]
        exponents = point.spread(smoothing.decode(texts[fold], point.width))
    return Probe(read_weight(source, branch, plan.linear), inputs, device).error(plan, exponents)


def stored_bytes(recipe: Recipe, source: Checkpoint) -> int:
    """Bytes of both branches' tensors as a recipe stores them; headers come on top."""
    return sum(linear_bytes(recipe, source).values())


def linear_bytes(recipe: Recipe, source: Checkpoint) -> Mapping[tuple[PartName, str], int]:
    """Bytes that each source tensor takes as a recipe stores it, by branch and official name."""
    size = layout.container(recipe.scheme).stored_bytes
    return {
        (branch, name): sum(size(record) for record in records)
        for branch in source.parts
        for name, records in layout.stored_tensors(source.config, recipe, branch).items()
    }


def check_statistics(statistics: Statistics, source: Checkpoint) -> None:
    """Raises ArtifactError unless the statistics were made with these very weights and have all that policies need."""
    made, given = statistics.calibration.source.files, source.record().files
    if sorted(made.values()) != sorted(given.values()):
        raise ArtifactError(
            f"statistics are of {statistics.calibration.source.location}, whose weights differ from those of {source.location}; "
            "calibrate this source"
        )
    statistics.check(source.config, source.parts)


def token_linears(source: Checkpoint) -> list[str]:
    """The Linears that see every token, in the model's order."""
    return [linear.name for linear in component(source.config).linears if linear.sees_tokens]
