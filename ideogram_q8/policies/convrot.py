"""ComfyUI's convention: all Linears of the blocks are W8A8, rotated in groups of 256 inputs, and nothing is protected.

This is the layout of Comfy-Org/Ideogram-4's `int8_convrot` files: modulation Linears are quantized too, the seven Linears outside
the blocks stay bfloat16. A width that 256 does not divide, which the real model does not have, stays unrotated.
"""

from __future__ import annotations

from ideogram_q8.model.architecture import Linear
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import FORMAT_VERSION, LayerPlan, Part, Recipe, outside_the_blocks


def make(request: PolicyRequest) -> Recipe:
    """`recipe make --policy convrot`."""
    return convrot(request.source.config)


def convrot(config: Dimensions) -> Recipe:
    """The recipe for a model of these dimensions; both branches get the same, and nothing is measured."""
    model = component(config)
    part = Part(tuple(_plan(linear) for linear in model.linears), ())
    return Recipe(FORMAT_VERSION, "int8", "convrot", None, dict.fromkeys(model.parts, part))


def _plan(linear: Linear) -> LayerPlan:
    if not linear.in_block:
        return LayerPlan(linear.name, "bf16", 0, outside_the_blocks(linear))
    if linear.in_features % GROUP:
        return LayerPlan(linear.name, "w8a8", 0, f"width {linear.in_features} is no multiple of {GROUP}")
    return LayerPlan(linear.name, "w8a8", GROUP, "all blocks alike: a rotation spreads outliers over their group")
