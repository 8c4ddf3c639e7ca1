"""Smoothing folded into the weights: powers of two that change no result of the float model, bit for bit.

A fold point is a place between two weights where a channel may be scaled down on one side and up on the other:

    transformers                                                  text encoder
    layers.N.attention_norm1   its weight -> qkv                  input_layernorm           -> q_proj, k_proj, v_proj
    layers.N.attention.v       last third of qkv's rows -> o      self_attn.v_proj, rows    -> o_proj
    layers.N.ffn_norm1         its weight -> w1 and w3            post_attention_layernorm  -> gate_proj, up_proj
    layers.N.feed_forward.w3   its rows -> w2                     mlp.up_proj, rows         -> down_proj

What is behind an arrow has its columns scaled; silu(w1 x) * (w3 x) is linear in w3. The text encoder's queries share keys and values in
groups, so a channel of v_proj is several columns of o_proj: those of its head in each query head of the group.

SmoothQuant (arXiv 2211.10438) folds into norms only; attention and SwiGLU being linear in v and w3 gives the other two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import TransformerConfig, split_block
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, TextEncoderConfig
from ideogram_q8.numerics import smoothing
from ideogram_q8.recipes import FOLDS, Part, fold_of


@dataclass(frozen=True)
class FoldPoint:
    """`width` channels, which are rows (elements, of a norm) of the tensor `producer` from `first_row` on.

    Runs of `run` channels are each `copies` times in a row in the consumers' columns; where `copies` is 1, channels are columns.
    """

    producer: str
    first_row: int
    width: int
    run: int = 1
    copies: int = 1

    def spread(self, channels: torch.Tensor) -> torch.Tensor:
        """[width] -> the same value for each column of a consumer, [width * copies]."""
        return channels.view(-1, self.run).repeat_interleave(self.copies, 0).flatten()

    def gather(self, maxima: torch.Tensor) -> torch.Tensor:
        """[width * copies], one for each column -> the largest for each channel, [width]."""
        return maxima.view(-1, self.copies, self.run).amax(1).flatten()


class Folding:
    """The smoothing of one part of a recipe, decoded; `apply` scales a tensor's rows and columns as it asks."""

    def __init__(self, part: Part, config: Dimensions) -> None:
        """Raises ArtifactError: an unknown fold point, one given twice, or exponents of another width."""
        points = fold_points(config)
        self._columns: dict[str, torch.Tensor] = {}
        self._rows: dict[str, tuple[int, torch.Tensor]] = {}
        for item in part.smoothing:
            if item.fold not in points or item.fold in self._columns:
                problem = "is given twice" if item.fold in points else "is no fold point of this model"
                raise ArtifactError(f"recipe: smoothing {item.fold!r} {problem}; was it made for another model?")
            point = points[item.fold]
            exponents = smoothing.decode(item.exponents, point.width)
            self._columns[item.fold] = point.spread(exponents)
            self._rows[point.producer] = point.first_row, exponents

    def apply(self, name: str, tensor: torch.Tensor, start: int = 0) -> torch.Tensor:
        """The tensor `name` (official, with `.weight`) after folding; the tensor itself where nothing is folded into it.

        `tensor` may be a part of it: its rows (of a vector, its elements) from `start` on.
        """
        incoming = self._columns.get(fold_of(name.removesuffix(".weight")) or "")
        if incoming is not None:
            tensor = smoothing.scale_columns(tensor, incoming)
        if name not in self._rows:
            return tensor
        first_row, exponents = self._rows[name]
        outgoing = torch.cat([torch.zeros(first_row, dtype=exponents.dtype), exponents])
        return smoothing.scale_rows(tensor, -outgoing[start : start + len(tensor)])


def fold_points(config: Dimensions) -> dict[str, FoldPoint]:
    """All fold points of one network, by name."""
    if isinstance(config, TextEncoderConfig):
        return _encoder_points(config)
    return _transformer_points(config)


def _transformer_points(config: TransformerConfig) -> dict[str, FoldPoint]:
    hidden, found = config.hidden_size, {}
    for i in range(config.num_layers):
        block = f"layers.{i}."
        found[f"{block}attention_norm1"] = FoldPoint(f"{block}attention_norm1.weight", 0, hidden)
        found[f"{block}attention.v"] = FoldPoint(f"{block}attention.qkv.weight", 2 * hidden, hidden)
        found[f"{block}ffn_norm1"] = FoldPoint(f"{block}ffn_norm1.weight", 0, hidden)
        found[f"{block}feed_forward.w3"] = FoldPoint(f"{block}feed_forward.w3.weight", 0, config.intermediate_size)
    return found


def _encoder_points(config: TextEncoderConfig) -> dict[str, FoldPoint]:
    found = {}
    values = config.num_key_value_heads * config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    for i in range(config.num_layers):
        block = f"{LANGUAGE_MODEL}layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{block}{name}"] = FoldPoint(f"{block}{name}.weight", 0, config.hidden_size)
        v, up = f"{block}self_attn.v_proj", f"{block}mlp.up_proj"
        found[v] = FoldPoint(f"{v}.weight", 0, values, config.head_dim, group)
        found[up] = FoldPoint(f"{up}.weight", 0, config.intermediate_size)
    return found


def consumers(fold: str) -> tuple[str, ...]:
    """The Linears whose columns a fold point scales.

    Raises:
        ValueError: no fold point.
    """
    block, name = split_block(fold)
    found = tuple(block + kind for kind, point in FOLDS.items() if point == name) if block else ()
    if not found:
        raise ValueError(f"{fold!r} is no fold point")
    return found
