"""What can be quantized as one: the pair of transformers, or the text encoder. Its Linears and tensors, whichever it is.

The text encoder is Qwen3-VL-8B-Instruct as transformers' `Qwen3VLModel` (5.23, modeling_qwen3_vl.py, Apache-2.0): a language model
with grouped-query attention, and a vision tower that Ideogram 4 never runs. Its names are the same everywhere. No torch, no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.errors import SourceError
from ideogram_q8.model.architecture import (
    BRANCHES,
    LARGEST_DIMENSION,
    MOST_LAYERS,
    Linear,
    PartName,
    TransformerConfig,
    linears,
    tensor_shapes,
)

ComponentName = Literal["transformers", "text_encoder"]
COMPONENTS: tuple[ComponentName, ...] = ("transformers", "text_encoder")
LANGUAGE_MODEL = "language_model."
"""What the names of the text encoder's language model begin with."""


@dataclass(frozen=True)
class VisionConfig:
    """The dimensions of the text encoder's vision tower, under transformers' names."""

    depth: int
    hidden_size: int
    intermediate_size: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    out_hidden_size: int
    num_position_embeddings: int
    deepstack_mergers: int


@dataclass(frozen=True)
class TextEncoderConfig:
    """The dimensions of a text encoder under transformers' names; `values` is the whole content of its config.json."""

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    vision: VisionConfig
    values: Mapping[str, object]

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> TextEncoderConfig:
        """Reads a parsed config.json of Qwen3-VL.

        Raises:
            SourceError: it is of another model, or a dimension is missing or out of range.
        """
        if values.get("model_type") != "qwen3_vl":
            raise SourceError(f"config.json: model_type is {str(values.get('model_type'))[:60]!r}, expected 'qwen3_vl'")
        text, vision = _object(values, "text_config"), _object(values, "vision_config")
        if text.get("attention_bias", False) is not False:
            raise SourceError("config.json: attention_bias is set, which Qwen3-VL does not have; expected false")
        found = cls(
            hidden_size=_size(text, "hidden_size"),
            num_layers=_size(text, "num_hidden_layers", MOST_LAYERS),
            num_attention_heads=_size(text, "num_attention_heads"),
            num_key_value_heads=_size(text, "num_key_value_heads"),
            head_dim=_size(text, "head_dim"),
            intermediate_size=_size(text, "intermediate_size"),
            vocab_size=_size(text, "vocab_size"),
            vision=_vision(vision),
            values=dict(values),
        )
        if found.num_attention_heads % found.num_key_value_heads:
            heads = f"{found.num_attention_heads} heads in {found.num_key_value_heads} groups"
            raise SourceError(f"config.json: {heads}; expected as many heads in each")
        return found

    def to_json(self) -> dict[str, object]:
        """The content of transformers' config.json."""
        return dict(self.values)


def _vision(values: Mapping[str, object]) -> VisionConfig:
    layers = values.get("deepstack_visual_indexes")
    if not isinstance(layers, list | tuple) or len(layers) > MOST_LAYERS:
        raise SourceError(f"config.json: deepstack_visual_indexes is {str(layers)[:60]}, expected a list of layers")
    names = [name for name in VisionConfig.__dataclass_fields__ if name != "deepstack_mergers"]
    sizes = {name: _size(values, name, MOST_LAYERS if name == "depth" else LARGEST_DIMENSION) for name in names}
    return VisionConfig(**sizes, deepstack_mergers=len(layers))


def _object(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    if not isinstance(found, dict):
        raise SourceError(f"config.json: {name} is {str(found)[:60]!r}, expected an object")
    return found


def _size(values: Mapping[str, object], name: str, limit: int = LARGEST_DIMENSION) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
        raise SourceError(f"config.json: {name} is {str(value)[:60]}, expected 1 to {limit}")
    return value


Dimensions = TransformerConfig | TextEncoderConfig


@dataclass(frozen=True)
class Component:
    """`parts` have the same Linears and tensors each; `shapes` are of all base tensors, by official name, without scales."""

    parts: tuple[PartName, ...]
    linears: tuple[Linear, ...]
    shapes: Mapping[str, tuple[int, ...]]


def component(config: Dimensions) -> Component:
    """The component that has these dimensions."""
    if isinstance(config, TransformerConfig):
        return Component(BRANCHES, linears(config), tensor_shapes(config))
    found = (*_language_linears(config), *_vision_linears(config.vision))
    return Component(("text_encoder",), found, _encoder_shapes(config, found))


def _language_linears(config: TextEncoderConfig) -> list[Linear]:
    hidden, ffn = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    sizes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    blocks = (f"{LANGUAGE_MODEL}layers.{i}." for i in range(config.num_layers))
    return [Linear(block + name, *size, False) for block in blocks for name, size in sizes.items()]


def _vision_linears(vision: VisionConfig) -> list[Linear]:
    hidden, ffn = vision.hidden_size, vision.intermediate_size
    found = []
    for i in range(vision.depth):
        block = f"visual.blocks.{i}."
        found += [
            Linear(f"{block}attn.qkv", 3 * hidden, hidden, True),
            Linear(f"{block}attn.proj", hidden, hidden, True),
            Linear(f"{block}mlp.linear_fc1", ffn, hidden, True),
            Linear(f"{block}mlp.linear_fc2", hidden, ffn, True),
        ]
    merged = hidden * vision.spatial_merge_size**2
    for merger in _mergers(vision):
        found.append(Linear(f"{merger}.linear_fc1", merged, merged, True))
        found.append(Linear(f"{merger}.linear_fc2", vision.out_hidden_size, merged, True))
    return found


def _mergers(vision: VisionConfig) -> list[str]:
    return ["visual.merger", *(f"visual.deepstack_merger_list.{i}" for i in range(vision.deepstack_mergers))]


def _encoder_shapes(config: TextEncoderConfig, found: tuple[Linear, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{LANGUAGE_MODEL}embed_tokens.weight": (config.vocab_size, config.hidden_size),
        f"{LANGUAGE_MODEL}norm.weight": (config.hidden_size,),
    }
    for linear in found:
        shapes[f"{linear.name}.weight"] = (linear.out_features, linear.in_features)
        if linear.bias:
            shapes[f"{linear.name}.bias"] = (linear.out_features,)
    for i in range(config.num_layers):
        block = f"{LANGUAGE_MODEL}layers.{i}."
        shapes |= {f"{block}{norm}.weight": (config.hidden_size,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{block}self_attn.{norm}.weight": (config.head_dim,) for norm in ("q_norm", "k_norm")}
    return shapes | _vision_shapes(config.vision)


def _vision_shapes(vision: VisionConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of what is no Linear in the vision tower."""
    hidden, patch = vision.hidden_size, vision.patch_size
    shapes: dict[str, tuple[int, ...]] = {
        "visual.patch_embed.proj.weight": (hidden, vision.in_channels, vision.temporal_patch_size, patch, patch),
        "visual.patch_embed.proj.bias": (hidden,),
        "visual.pos_embed.weight": (vision.num_position_embeddings, hidden),
    }
    norms = {f"visual.blocks.{i}.{norm}": hidden for i in range(vision.depth) for norm in ("norm1", "norm2")}
    merger, *deepstack = _mergers(vision)
    norms |= {f"{merger}.norm": hidden} | {f"{name}.norm": hidden * vision.spatial_merge_size**2 for name in deepstack}
    return shapes | {f"{norm}.{leaf}": (width,) for norm, width in norms.items() for leaf in ("weight", "bias")}
