"""What a step of denoising computes, counted from shapes: a multiplication and an addition are two operations.

Linears take 2 N K for each token, attention 4 S^2 hidden for a branch of S tokens (its softmax is not counted). Modulation and the
caption's projection are computed once a picture, and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ideogram_q8.model.architecture import PRESETS, TransformerConfig

PRESET = PRESETS["quality-48"]
"""Whose steps are measured, and make a picture."""
ATTENTION = "attention"
BLOCK_PRODUCTS = ("attention.qkv", "attention.o", "feed_forward.w1+w3", "feed_forward.w2")
"""The products of a block, as the loop computes them: Linears of one input are one."""


@dataclass(frozen=True)
class ProductShape:
    """A product with a weight [outputs, inputs]."""

    kind: str
    outputs: int
    inputs: int

    def operations(self, rows: int) -> int:
        """Multiplications and additions for `rows` rows of activations."""
        return 2 * rows * self.outputs * self.inputs


def block_shapes(config: TransformerConfig) -> tuple[ProductShape, ...]:
    """Shapes (outputs, inputs) of the products that BLOCK_PRODUCTS names, by their names."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    sizes = ((3 * hidden, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn))
    return tuple(ProductShape(kind, *size) for kind, size in zip(BLOCK_PRODUCTS, sizes, strict=True))


def other_shapes(config: TransformerConfig) -> tuple[ProductShape, ...]:
    """Shapes of the Linears outside the blocks and of modulation; Linears of one shape stand under one name."""
    hidden, adaln, channels = config.hidden_size, config.adaln_dim, config.in_channels
    return (
        ProductShape("adaln_modulation", 4 * hidden, adaln),
        ProductShape("llm_cond_proj", hidden, config.llm_features_dim),
        ProductShape("input_proj", hidden, channels),
        ProductShape("t_embedding", hidden, hidden),
        ProductShape("adaln_proj", adaln, hidden),
        ProductShape("final_layer.adaln_modulation", hidden, adaln),
        ProductShape("final_layer.linear", channels, hidden),
    )


def attention_operations(config: TransformerConfig, tokens: int) -> int:
    """Multiplications and additions of attention in one block on `tokens` tokens: queries with keys, weights with values."""
    return 4 * tokens**2 * config.hidden_size


def of_a_step(config: TransformerConfig, text_tokens: int, image_tokens: int) -> Mapping[str, int]:
    """Operations of both branches in one step, by BLOCK_PRODUCTS, ATTENTION and `outside`."""
    counts = (text_tokens + image_tokens, image_tokens)
    found = {shape.kind: config.num_layers * sum(map(shape.operations, counts)) for shape in block_shapes(config)}
    found[ATTENTION] = config.num_layers * sum(attention_operations(config, tokens) for tokens in counts)
    ends = [shape for shape in other_shapes(config) if shape.kind in ("input_proj", "final_layer.linear")]
    return found | {"outside": 2 * sum(shape.operations(image_tokens) for shape in ends)}
