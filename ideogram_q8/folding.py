"""Smoothing folded into the weights: powers of two that change no result of the float model, bit for bit.

A fold point is a place between two weights where a channel may be scaled down on one side and up on the other:

    layers.N.attention_norm1     the norm's weight              -> columns of qkv
    layers.N.attention.v         the last third of qkv's rows   -> columns of o
    layers.N.ffn_norm1           the norm's weight              -> columns of w1 and w3
    layers.N.feed_forward.w3     its rows                       -> columns of w2 (silu(w1 x) * (w3 x) is linear in w3)

SmoothQuant (arXiv 2211.10438) folds into norms only; attention and SwiGLU being linear in v and w3 gives the other two.
"""

from __future__ import annotations

import re

import torch

from ideogram_q8.architecture import TransformerConfig
from ideogram_q8.errors import ArtifactError
from ideogram_q8.numerics import smoothing
from ideogram_q8.recipe import Part, fold_of


class Folding:
    """The smoothing of one part of a recipe, decoded; `apply` scales a tensor's rows and columns as it asks."""

    def __init__(self, part: Part, config: TransformerConfig) -> None:
        """Raises ArtifactError: an unknown fold point, one given twice, or exponents of another width."""
        points = fold_points(config)
        self._exponents: dict[str, torch.Tensor] = {}
        for item in part.smoothing:
            if item.fold not in points or item.fold in self._exponents:
                problem = "is given twice" if item.fold in points else "is no fold point of this model"
                raise ArtifactError(f"recipe: smoothing {item.fold!r} {problem}; was it made for another model?")
            self._exponents[item.fold] = smoothing.decode(item.exponents, points[item.fold])

    def apply(self, name: str, tensor: torch.Tensor, start: int = 0) -> torch.Tensor:
        """The tensor `name` (official, with `.weight`) after folding; the tensor itself where nothing is folded into it.

        `tensor` may be a part of it: its rows (of a vector, its elements) from `start` on.
        """
        linear = name.removesuffix(".weight")
        incoming = self._exponents.get(fold_of(linear) or "")
        if incoming is not None:
            tensor = smoothing.scale_columns(tensor, incoming)
        outgoing = self._exponents.get(linear.replace("attention.qkv", "attention.v"))
        if outgoing is None:
            return tensor
        if linear.endswith("attention.qkv"):
            outgoing = torch.cat([torch.zeros(2 * len(outgoing), dtype=outgoing.dtype), outgoing])
        return smoothing.scale_rows(tensor, -outgoing[start : start + len(tensor)])


def fold_points(config: TransformerConfig) -> dict[str, int]:
    """All fold points of one transformer, and how many channels each has."""
    widths = {
        "attention_norm1": config.hidden_size,
        "attention.v": config.hidden_size,
        "ffn_norm1": config.hidden_size,
        "feed_forward.w3": config.intermediate_size,
    }
    return {f"layers.{i}.{name}": width for i in range(config.num_layers) for name, width in widths.items()}


def consumers(fold: str) -> tuple[str, ...]:
    """The Linears whose columns a fold point scales."""
    match = re.fullmatch(r"(layers\.\d+\.)(.+)", fold)
    if match is None:
        raise ValueError(f"{fold!r} is no fold point")
    names = ("attention.qkv", "attention.o", "feed_forward.w1", "feed_forward.w3", "feed_forward.w2")
    return tuple(match.group(1) + name for name in names if fold_of(match.group(1) + name) == fold)
