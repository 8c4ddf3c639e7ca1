"""Changes to a GGUF recipe: other types for Linears by name, and importance for ggml's searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, Linear
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.model.schemes import GGUF_SCHEMES, MIXED, PRESETS, LayerScheme, can_be_weighted, gguf_types
from ideogram_q8.model.typed import as_typed
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.recipes.plan import NAIVE, LayerPlan, Part, Recipe, problem_of


def parse(text: str) -> tuple[str, LayerScheme]:
    """`layers.*.attention.o=q6_k` -> (pattern, type). Raises RequestError: no `=`, or an unknown type."""
    pattern, _, scheme = text.rpartition("=")
    wanted = as_typed(scheme, gguf_types())
    if not pattern or wanted not in gguf_types():
        raise RequestError(f"rule {text!r}: expected PATTERN=TYPE, TYPE one of {', '.join(gguf_types())}")
    return pattern, wanted


def apply_rules(recipe: Recipe, rules: Sequence[tuple[str, LayerScheme]], config: Dimensions) -> Recipe:
    """A GGUF recipe with other types for the Linears that patterns name; the last pattern that matches counts.

    It stays one of its preset while most weights of the blocks have the types that the preset gives them; else it is `mixed`, for files
    are named by it.

    Args:
        rules: shell patterns over official names (`layers.*.attention.o`), and a type for each.

    Raises:
        RequestError: the recipe is not of a GGUF scheme, a pattern matches no Linear, or a type does not fit a Linear's width.
    """
    if recipe.scheme not in GGUF_SCHEMES:
        raise RequestError(f"a rule names a GGUF type, the scheme is {recipe.scheme}; expected one of {', '.join(PRESETS)}")
    changed: dict[str, LayerPlan] = {}
    for pattern, scheme in rules:
        for linear in _matching(pattern, component(config).linears):
            plan = LayerPlan(linear.name, scheme, 0, f"rule {pattern}={scheme}")
            problem = problem_of(recipe.scheme, plan, linear, False)
            if problem is not None:
                raise RequestError(f"rule {pattern}={scheme}: {linear.name} {problem}; name another type, or fewer Linears")
            changed[linear.name] = plan
    parts = {
        name: replace(part, layers=tuple(changed.get(layer.linear, layer) for layer in part.layers))
        for name, part in recipe.parts.items()
    }
    stays = _mostly_as(recipe, parts, component(config).linears)
    return replace(recipe, scheme=recipe.scheme if stays else MIXED, policy=_and(recipe.policy, "rules"), parts=parts)


def _mostly_as(recipe: Recipe, parts: Mapping[str, Part], linears: Sequence[Linear]) -> bool:
    """Whether more than half of the weights inside the blocks have the types that they have in `recipe`."""
    sizes = {linear.name: linear.in_features * linear.out_features for linear in linears if linear.in_block}
    kept = total = 0
    for name, part in parts.items():
        for before, now in zip(recipe.parts[name].layers, part.layers, strict=True):
            size = sizes.get(now.linear, 0)
            total += size
            kept += size if now.scheme == before.scheme else 0
    return 2 * kept > total


def _matching(pattern: str, linears: Sequence[Linear]) -> list[Linear]:
    found = [linear for linear in linears if fnmatchcase(linear.name, pattern)]
    if not found:
        names = ", ".join(linear.name for linear in linears[-6:])
        raise RequestError(f"rule {pattern!r} matches no Linear; expected a pattern for names such as {names}")
    return found


def weigh(recipe: Recipe, importance: Importance) -> Recipe:
    """A GGUF recipe whose Linears are weighted wherever their type can be and there are statistics. One that is stays as it is.

    Raises:
        RequestError: nothing in the recipe can be weighted, or other statistics chose.
    """
    if recipe.stats_sha256 not in (None, importance.sha256):
        raise RequestError(
            f"the recipe was made with statistics of sha256 {recipe.stats_sha256}, those given have {importance.sha256}; "
            "give the same, or make the recipe again"
        )
    if recipe.is_weighted:
        return recipe
    parts: dict[str, Part] = {}
    for name in (name for name in COMPONENT_FOLDERS if name in recipe.parts):
        part = recipe.parts[name]
        layers = [
            replace(layer, weighted=can_be_weighted(layer.scheme) and importance.has(name, layer.linear))
            for layer in part.layers
        ]
        parts[name] = replace(part, layers=tuple(layers))
    weighted = replace(recipe, policy=_and(recipe.policy, "imatrix"), stats_sha256=importance.sha256, parts=parts)
    if not weighted.is_weighted:
        raise RequestError(f"{recipe.variant} has no Linear that importance can weigh; leave --importance out")
    return weighted


def _and(policy: str, what: str) -> str:
    return what if policy == NAIVE else f"{policy}-{what}"
