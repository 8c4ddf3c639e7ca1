"""Recipes that treat Linears differently, for tests of what other software makes of them."""

from __future__ import annotations

from dataclasses import replace

from ideogram_q8.model.schemes import LayerScheme
from ideogram_q8.recipes import Part, Recipe, choose
from tests.synthetic import TINY


def changed(recipe: Recipe, schemes: dict[str, str], rotation: dict[str, int] | None = None) -> Recipe:
    """The recipe with other schemes and rotations for Linears of the conditional branch."""
    part = recipe.parts["conditional"]
    layers = tuple(
        replace(layer, scheme=schemes.get(layer.linear, layer.scheme), rotation=(rotation or {}).get(layer.linear, 0))
        for layer in part.layers
    )
    return replace(recipe, policy="mixed", parts={**recipe.parts, "conditional": Part(layers, part.smoothing)})


def all_alike(scheme: LayerScheme) -> Recipe:
    """W8A8, or weight-only int8, for all Linears of the blocks of both branches."""
    naive = choose("int8", TINY)
    parts = {
        name: Part(tuple(replace(plan, scheme=scheme) if "layers." in plan.linear else plan for plan in part.layers), ())
        for name, part in naive.parts.items()
    }
    return replace(naive, policy=scheme, parts=parts)


MIXED = changed(
    choose("int8", TINY),
    {
        "layers.0.attention.qkv": "bf16",
        "layers.1.feed_forward.w2": "bf16",
        "layers.1.attention.qkv": "w8a16",
        "layers.0.adaln_modulation": "w8a16",
    },
)
"""Protected, weight-only and plain int8 Linears, fused ones among them."""
