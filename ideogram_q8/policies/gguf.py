"""A GGUF type for each Linear by measured output error, under a budget of bytes for the files of both branches together.

What can be chosen inside the blocks: IQ4_NL, Q4_K, Q5_K, Q6_K, Q8_0 and bfloat16, of which the K types become what a width that
256 does not divide has instead. Types that can be weighted are measured and stored so. The other types take the bytes of one of
these and err more. The seven Linears outside the blocks stay bfloat16.

The error is that of `policies.measurement`, but of the decoded weight in float32 and over some rows of a Linear, evenly spaced: rows
are coded apart, so that some say what all would, and encoding all rows of all Linears in all types takes hours. Bytes go where they
remove most of the sum of errors: `policies.auto`'s knapsack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from ideogram_q8.builds import layout
from ideogram_q8.errors import RequestError
from ideogram_q8.formats import gguf_writer
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.model.architecture import Branch, Linear, PartName, linears
from ideogram_q8.model.schemes import MIXED, LayerScheme, can_be_weighted
from ideogram_q8.numerics import ggml
from ideogram_q8.policies.auto import Group, Option, front, spend
from ideogram_q8.policies.measurement import OnProgress, Probe, in_words, inputs_of, read_weight
from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import LayerPlan, Part, Recipe, choose, fitting
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.sources import Source

CANDIDATES: tuple[LayerScheme, ...] = ("iq4_nl", "q4_k", "q5_k", "q6_k", "q8_0", "bf16")
ROWS = 512
"""The most rows of a weight that are encoded to measure a type."""
_TEXTS = 4096
"""More bytes than the texts in a file's header can have."""


def make(request: PolicyRequest) -> Recipe:
    """`recipe make --policy gguf`. Raises as `gguf`."""
    assert isinstance(request.source, Source) and request.stats_sha256 is not None
    importance = Importance(request.statistics, request.stats_sha256)
    return gguf(importance, request.source, request.budget, device=request.device, on_progress=request.on_progress)


def gguf(
    importance: Importance,
    source: Source,
    target: int | None = None,
    *,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> Recipe:
    """The recipe with the least summed error that was found for files of `target` bytes, both branches together.

    Args:
        target: None is the size of a Q4_K_M build.
        device: where products are computed.

    Raises:
        RequestError: not even the smallest choice fits.
        ArtifactError: a Linear has no statistics.
    """
    base = choose("q4_k_m", source.config)
    if target is None:
        target = file_bytes(base, source)
    return fit(measure(importance, source, device, on_progress), importance, source, target)


def fit(groups: Sequence[Group], importance: Importance, source: Source, target: int) -> Recipe:
    """The recipe for files of `target` bytes from groups that `measure` returned.

    Raises:
        RequestError: not even the smallest choice fits.
    """
    smallest = _recipe(importance, source, [(group, group.options[0]) for group in groups])
    least = file_bytes(smallest, source)
    if least > target:
        raise RequestError(
            f"files of {gigabytes(target, '.6g')} are too small: GGUF takes {gigabytes(least, '.6g')} at least; allow more"
        )
    room = target - least + sum(group.options[0].size for group in groups)
    picks = spend(groups, [0] * len(groups), room)
    return _recipe(importance, source, [(group, group.options[pick]) for group, pick in zip(groups, picks, strict=True)])


def _recipe(importance: Importance, source: Source, chosen: Sequence[tuple[Group, Option]]) -> Recipe:
    base = choose("q4_k_s", source.config)
    plans = {(group.branch, plan.linear): plan for group, option in chosen for plan in option.plans}
    parts: dict[str, Part] = {
        branch: Part(tuple(plans.get((branch, layer.linear), layer) for layer in base.parts[branch].layers), ())
        for branch in source.branches
    }
    return replace(base, scheme=MIXED, policy="gguf", stats_sha256=importance.sha256, parts=parts)


def file_bytes(recipe: Recipe, source: Source) -> int:
    """At least the bytes of both branches' files, headers and padding and all, and at most a few kilobytes more."""
    total = 0
    for branch in source.branches:
        stored = layout.stored_tensors(source.config, recipe, branch)
        records = [record for records in stored.values() for record in records]
        files = layout.plan_files(recipe, branch, records, {}, layout.Packaging())
        total += sum(file.placement.size for file in files) + _TEXTS
    return total


def measure(importance: Importance, source: Source, device: str = "cpu", on_progress: OnProgress | None = None) -> list[Group]:
    """All Linears inside the blocks with what each type takes and errs; independent of any target.

    Raises:
        ArtifactError: a Linear has no statistics.
    """
    places = [(branch, linear) for branch in source.branches for linear in linears(source.config) if linear.in_block]
    groups = []
    for index, (branch, linear) in enumerate(places, 1):
        groups.append(_group(importance, source, branch, linear, device))
        if on_progress is not None:
            on_progress(index, len(places))
    return groups


def _group(importance: Importance, source: Source, branch: Branch, linear: Linear, device: str) -> Group:
    probe = probe_of(importance, source, branch, linear.name, device)
    weights = importance.of(branch, linear.name).to(device)
    options = {}
    for scheme in CANDIDATES:
        plan = fitting(linear, scheme, "")
        plan = replace(plan, weighted=can_be_weighted(plan.scheme))
        if plan.scheme not in options:
            error = error_of(probe, plan, weights if plan.weighted else None)
            options[plan.scheme] = Option((plan,), None, _bytes(linear, plan), error)
    figures = ", ".join(f"{scheme} {in_words(option.error)}" for scheme, option in options.items())
    told = [replace(option, plans=tuple(replace(plan, reason=figures) for plan in option.plans)) for option in options.values()]
    return Group(branch, None, 0, front(told))


def recipe_errors(
    importance: Importance, recipe: Recipe, source: Source, device: str = "cpu"
) -> dict[PartName, dict[str, float]]:
    """The error of every Linear that has statistics under a GGUF recipe, as `error_of` has it; 0 where it is kept."""
    found: dict[PartName, dict[str, float]] = {}
    for branch in source.branches:
        measured = [plan for plan in recipe.parts[branch].layers if importance.has(branch, plan.linear)]
        found[branch] = {plan.linear: _plan_error(importance, plan, source, branch, device) for plan in measured}
    return found


def _plan_error(importance: Importance, plan: LayerPlan, source: Source, branch: Branch, device: str) -> float:
    if plan.scheme == "bf16":
        return 0.0
    weights = importance.of(branch, plan.linear).to(device) if plan.weighted else None
    return error_of(probe_of(importance, source, branch, plan.linear, device), plan, weights)


def probe_of(importance: Importance, source: Source, branch: Branch, linear: str, device: str = "cpu") -> Probe:
    """At most `ROWS` rows of a Linear's weight, evenly spaced, and its sampled inputs. Raises ArtifactError: no statistics."""
    weight = read_weight(source, branch, linear)
    return Probe(weight[:: -(-len(weight) // ROWS)], inputs_of(importance.statistics, branch, linear).sample, device)


def error_of(probe: Probe, plan: LayerPlan, importance: torch.Tensor | None) -> float:
    """The mean over tokens of |y' - y|^2 / |y|^2, of products with the decoded weight in float32; 0 is exact."""
    (packed,) = layout.pack(probe.weight, plan, "f32", importance)
    decoded = ggml.decode(packed, ggml.BLOCKS[plan.scheme]) if plan.scheme in ggml.BLOCKS else packed.float()
    signal = probe.exact.square().sum(1, dtype=torch.float64)
    noise = (functional.linear(probe.inputs, decoded) - probe.exact).square().sum(1, dtype=torch.float64)
    heard = signal > 0
    return (noise / signal)[heard].mean().item() if heard.any() else 0.0


def _bytes(linear: Linear, plan: LayerPlan) -> int:
    shape = (linear.out_features, linear.in_features)
    return gguf_writer.padded_bytes(TensorRecord(linear.name, shape, plan.scheme.upper(), plan.scheme))
