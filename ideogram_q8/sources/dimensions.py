"""The dimensions of a checkpoint: from config.json, or from the shapes of its tensors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.text import read_json
from ideogram_q8.model.architecture import IDEOGRAM4, TransformerConfig
from ideogram_q8.model.components import TextEncoderConfig

Config = TypeVar("Config", TransformerConfig, TextEncoderConfig)


class Shaped(Protocol):
    """A stored tensor of either kind of file."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def count(self) -> int: ...


def from_config(path: Path, kind: type[Config]) -> Config:
    """The dimensions that a config.json states. Raises SourceError: it is missing, not JSON or not one of this kind of network."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise SourceError(f"{path}: expected an object")
    try:
        return kind.from_json(value)
    except SourceError as error:
        raise SourceError(f"{path.parent.name}/{error}") from None


def from_shapes(stored: Mapping[str, Shaped], where: Path) -> TransformerConfig:
    """The dimensions of a file by itself.

    What shapes cannot tell (positions, epsilon) is Ideogram 4's own if the width of its heads is; a model of another size needs
    a config.json beside the file.

    Raises:
        SourceError: a tensor that tells a dimension is missing, or no config.json tells the rest.
    """

    def size(name: str, axis: int) -> int:
        if name not in stored or len(stored[name].shape) <= axis or stored[name].shape[axis] == 0:
            raise SourceError(f"{where} does not tell its dimensions: {name} is missing or empty; download it again")
        return stored[name].shape[axis]

    hidden, head = size("embed_image_indicator.weight", 1), size("layers.0.attention.norm_q.weight", 0)
    found = dataclasses.replace(
        IDEOGRAM4,
        in_channels=size("final_layer.linear.bias", 0),
        num_layers=len({match[0] for name in stored if (match := re.match(r"layers\.\d+\.", name))}),
        attention_head_dim=head,
        num_attention_heads=max(1, hidden // head),
        intermediate_size=_elements(stored, "layers.0.feed_forward.w1.weight", where) // hidden,
        adaln_dim=size("adaln_proj.bias", 0),
        llm_features_dim=size("llm_cond_norm.weight", 0),
    )
    if head == IDEOGRAM4.attention_head_dim:
        return TransformerConfig.from_json(found.to_json())  # which knows the limits
    config = where.parent / "config.json"
    if not config.is_file():
        raise SourceError(
            f"{where} has heads of width {head}, Ideogram 4 has {IDEOGRAM4.attention_head_dim}; "
            f"put the model's config.json beside it: shapes do not tell how it counts positions"
        )
    return from_config(config, TransformerConfig)


def _elements(stored: Mapping[str, Shaped], name: str, where: Path) -> int:
    """Elements of a weight, packed or not. Rounded up where NF4 has an odd number of them; resolving then says so."""
    if name not in stored:
        raise SourceError(f"{where} does not tell its dimensions: {name} is missing; download it again")
    tensor = stored[name]
    return tensor.count * 2 if tensor.dtype == "U8" else tensor.count
