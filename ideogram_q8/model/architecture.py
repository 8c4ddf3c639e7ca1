"""What Ideogram 4 is: its Linears, tensors and key names, its text taps, presets and picture sizes.

Names are those of the official checkpoint (fused `qkv`); `diffusers_names` maps them to diffusers' split ones. Read from
ideogram-oss/ideogram4 (commit 415abf4: `modeling_ideogram4.py`, `sampler_configs.py`) and diffusers 0.42.1
(`transformer_ideogram4.py`, `pipeline_ideogram4.py`), both Apache-2.0. No torch, no files: pure data and arithmetic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.errors import RequestError, SourceError

Branch = Literal["conditional", "unconditional"]
BRANCHES: tuple[Branch, ...] = ("conditional", "unconditional")
PartName = Literal["conditional", "unconditional", "text_encoder"]
"""A network that is quantized: a branch, or the text encoder."""
TEXT_PROJECTION = ("llm_cond_norm", "llm_cond_proj")
"""What turns the caption's features into tokens. Both branches store it; the unconditional one, which reads no caption, never runs it."""
COMPONENT_FOLDERS: Mapping[PartName, str] = {
    "conditional": "transformer",
    "unconditional": "unconditional_transformer",
    "text_encoder": "text_encoder",
}
WEIGHT_FILES: Mapping[PartName, str] = {
    "conditional": "diffusion_pytorch_model.safetensors",
    "unconditional": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""What diffusers and transformers name the weights in these folders, where they are one file."""

TEXT_TAPS = (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35)
"""Decoder layers of the text encoder whose outputs are the text features, taps fastest."""
IMAGE_POSITION_OFFSET = 65536
"""First position index of image tokens on all three axes."""
MAX_TEXT_TOKENS = 2048
PATCH = 2
"""A token is PATCH x PATCH latent positions."""
LARGEST_DIMENSION = 1 << 20
"""Of any network that is read: far above Ideogram 4's 53,248 and the vocabulary's 151,936, and harmless to compute with."""
MOST_LAYERS = 1024


@dataclass(frozen=True)
class TransformerConfig:
    """The dimensions of one transformer, under diffusers' names (config.json)."""

    in_channels: int
    num_layers: int
    attention_head_dim: int
    num_attention_heads: int
    intermediate_size: int
    adaln_dim: int
    llm_features_dim: int
    rope_theta: int
    mrope_section: tuple[int, int, int]
    norm_eps: float

    @property
    def hidden_size(self) -> int:
        return self.attention_head_dim * self.num_attention_heads

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> TransformerConfig:
        """Reads a parsed config.json; keys that are not dimensions (`_class_name`, ...) are ignored.

        The official code's names (modeling_ideogram4.py, `Ideogram4Config`) are understood too: `emb_dim` and `num_heads`, whose
        quotient is a head's width, and `adanln_dim`.

        Raises:
            SourceError: a dimension is missing, not a positive number or larger than any model's, or two names contradict each other.
        """
        found = _under_diffusers_names(values)
        numbers: dict[str, int] = {}
        for name in (*_INTEGERS, "rope_theta"):
            value = found.get(name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise SourceError(f"config.json: {name} is {_shown(value)}, expected a positive integer")
            limit = _LIMITS.get(name, LARGEST_DIMENSION)
            if not 0 < value <= limit:
                raise SourceError(f"config.json: {name} is {_shown(value)}, expected 1 to {limit}")
            numbers[name] = value
        section = found.get("mrope_section")
        if not isinstance(section, list | tuple) or len(section) != 3 or not all(map(_is_position_count, section)):
            raise SourceError(f"config.json: mrope_section is {_shown(section)}, expected three integers")
        eps = found.get("norm_eps")
        if not isinstance(eps, float) or not 0 < eps < 1:
            raise SourceError(f"config.json: norm_eps is {_shown(eps)}, expected a small positive number")
        return cls(**numbers, mrope_section=(section[0], section[1], section[2]), norm_eps=eps)

    def to_json(self) -> dict[str, object]:
        """The content of diffusers' config.json."""
        values: dict[str, object] = {"_class_name": "Ideogram4Transformer2DModel"}
        values |= {name: getattr(self, name) for name in (*_INTEGERS, "rope_theta")}
        return values | {"mrope_section": list(self.mrope_section), "norm_eps": self.norm_eps}


_LIMITS: Mapping[str, int] = {"num_layers": MOST_LAYERS, "rope_theta": 1 << 53}
_OFFICIAL_NAMES = {"adanln_dim": "adaln_dim", "num_heads": "num_attention_heads"}


def _under_diffusers_names(values: Mapping[str, object]) -> dict[str, object]:
    """A config.json with the official code's names, if any, replaced by diffusers'. Raises SourceError: the two contradict each other."""
    found = dict(values)
    for official, name in _OFFICIAL_NAMES.items():
        if official in found and found.setdefault(name, found[official]) != found[official]:
            raise SourceError(
                f"config.json: {official} is {_shown(found[official])} and {name} {_shown(found[name])}; expected one of them"
            )
    if "emb_dim" not in found:
        return found
    width, heads = found["emb_dim"], found.get("num_attention_heads")
    if type(width) is not int or type(heads) is not int or width <= 0 or heads <= 0 or width % heads:
        raise SourceError(
            f"config.json: emb_dim is {_shown(width)}, expected a multiple of num_heads, which is {_shown(heads)}"
        )
    if found.setdefault("attention_head_dim", width // heads) != width // heads:
        raise SourceError(
            f"config.json: emb_dim is {width} of {heads} heads and attention_head_dim {_shown(found['attention_head_dim'])}; "
            f"expected {width // heads}"
        )
    return found


def _is_position_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_DIMENSION


def _shown(value: object) -> str:
    """For messages: what an untrusted file has, cut to a length that a terminal bears."""
    return repr(value)[:60]


_INTEGERS = (
    "in_channels",
    "num_layers",
    "attention_head_dim",
    "num_attention_heads",
    "intermediate_size",
    "adaln_dim",
    "llm_features_dim",
)

IDEOGRAM4 = TransformerConfig(128, 34, 256, 18, 12288, 512, 53248, 5_000_000, (24, 20, 20), 1e-5)


@dataclass(frozen=True)
class Linear:
    """A Linear under its official name (without `.weight`), with weight shape [out_features, in_features]."""

    name: str
    out_features: int
    in_features: int
    bias: bool

    @property
    def kind(self) -> str:
        """The name without its block number: `attention.qkv`, `self_attn.q_proj`, `llm_cond_proj`, ..."""
        return split_block(self.name)[1]

    @property
    def in_block(self) -> bool:
        return split_block(self.name)[0] != ""

    @property
    def runs(self) -> bool:
        """False for the text encoder's vision tower: captions have no pictures."""
        return not self.name.startswith("visual.")

    @property
    def sees_tokens(self) -> bool:
        """True for the attention and feed-forward Linears: thousands of rows per step, so activations pay to quantize."""
        return self.in_block and not self.name.endswith("adaln_modulation")


def split_block(name: str) -> tuple[str, str]:
    """The prefix of a block of either component, empty outside the blocks, and the rest of a name.

    >>> split_block("language_model.layers.3.mlp.up_proj")
    ('language_model.layers.3.', 'mlp.up_proj')
    """
    match = re.fullmatch(r"((?:language_model\.)?layers\.\d+\.)(.+)", name)
    return (match[1], match[2]) if match else ("", name)


def linears(config: TransformerConfig) -> tuple[Linear, ...]:
    """All Linears of one branch (211 for Ideogram 4), the seven outside the blocks first."""
    hidden, ffn, adaln = config.hidden_size, config.intermediate_size, config.adaln_dim
    found = [
        Linear("input_proj", hidden, config.in_channels, True),
        Linear("llm_cond_proj", hidden, config.llm_features_dim, True),
        Linear("t_embedding.mlp_in", hidden, hidden, True),
        Linear("t_embedding.mlp_out", hidden, hidden, True),
        Linear("adaln_proj", adaln, hidden, True),
        Linear("final_layer.linear", config.in_channels, hidden, True),
        Linear("final_layer.adaln_modulation", hidden, adaln, True),
    ]
    for i in range(config.num_layers):
        found += [
            Linear(f"layers.{i}.attention.qkv", 3 * hidden, hidden, False),
            Linear(f"layers.{i}.attention.o", hidden, hidden, False),
            Linear(f"layers.{i}.feed_forward.w1", ffn, hidden, False),
            Linear(f"layers.{i}.feed_forward.w2", hidden, ffn, False),
            Linear(f"layers.{i}.feed_forward.w3", ffn, hidden, False),
            Linear(f"layers.{i}.adaln_modulation", 4 * hidden, adaln, True),
        ]
    return tuple(found)


def tensor_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all base tensors of one branch (458 for Ideogram 4), by official name; no scales."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "llm_cond_norm.weight": (config.llm_features_dim,),
        "embed_image_indicator.weight": (2, hidden),
    }
    for linear in linears(config):
        shapes[f"{linear.name}.weight"] = (linear.out_features, linear.in_features)
        if linear.bias:
            shapes[f"{linear.name}.bias"] = (linear.out_features,)
    for i in range(config.num_layers):
        for norm in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
            shapes[f"layers.{i}.{norm}.weight"] = (hidden,)
        for norm in ("norm_q", "norm_k"):
            shapes[f"layers.{i}.attention.{norm}.weight"] = (config.attention_head_dim,)
    return shapes


TOGETHER = (("attention.to_q", "attention.to_k", "attention.to_v"), ("feed_forward.w1", "feed_forward.w3"))
"""Linears of a block that see the same input, by diffusers' names."""


def diffusers_names(name: str) -> tuple[str, ...]:
    """diffusers' names of an official tensor; a fused `qkv` tensor gives three, each owning a third of its rows in order.

    >>> diffusers_names("layers.3.attention.o.weight")
    ('layers.3.attention.to_out.0.weight',)
    """
    match = re.fullmatch(r"(layers\.\d+\.attention\.)(qkv|o)\.(.+)", name)
    if match is None:
        return (name,)
    prefix, kind, leaf = match.groups()
    if kind == "o":
        return (f"{prefix}to_out.0.{leaf}",)
    return tuple(f"{prefix}to_{part}.{leaf}" for part in "qkv")


@dataclass(frozen=True)
class Preset:
    """A sampler setting: step count, how many last steps use the low guidance, and the schedule's mean and deviation.

    `main_guidance` is None where the checkpoint's own is meant.
    """

    name: str
    steps: int
    final_steps: int
    mu: float
    std: float
    main_guidance: float | None = None

    def guidance(self, traits: Traits) -> tuple[float, ...]:
        """Guidance weight of each step in time order (first = most noise); the last ones are never above the main one."""
        main, final = traits.guidance
        if self.main_guidance is not None:
            main, final = self.main_guidance, min(self.main_guidance, final)
        return (main,) * (self.steps - self.final_steps) + (final,) * self.final_steps

    def branches(self, traits: Traits) -> tuple[Branch, ...]:
        """The transformers that a picture runs: at guidance 1 the velocity is the conditional one's, and no other is computed."""
        return BRANCHES if any(weight != 1.0 for weight in self.guidance(traits)) else BRANCHES[:1]


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("turbo-12", 12, 1, 0.5, 1.75),
        Preset("default-20", 20, 2, 0.0, 1.75),
        Preset("quality-48", 48, 3, 0.0, 1.5),
        Preset("instant-8", 8, 0, 0.0, 1.75, 1.0),
        Preset("fast-20", 20, 0, 0.0, 1.75, 1.0),
    )
}
"""The official ones, then those of the distilled transformers fal/ideogram-v4-instant and -fast (their model cards): no guidance."""


@dataclass(frozen=True)
class Traits:
    """What a checkpoint was made for: picture sizes in pixels and guidance (main steps, final steps)."""

    name: str
    min_side: int
    max_side: int
    default_size: tuple[int, int]
    guidance: tuple[float, float]


IDEOGRAM4_TRAITS = Traits("Ideogram 4", 256, 2048, (1024, 1024), (7.0, 3.0))
SIDE_MULTIPLE = 16
MAX_ASPECT = 6.0
MAX_STEPS = 200
MAX_GUIDANCE = 20.0
MAX_SEED = 2**63 - 1


def preset(name: str) -> Preset:
    """A preset by name, or one of `custom_preset`'s. Raises RequestError for any other name."""
    if name in PRESETS:
        return PRESETS[name]
    found = re.fullmatch(r"custom-(\d{1,3})-g(\d{1,2}(?:\.\d{1,2})?)", name)
    if found is None:
        raise RequestError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}, or custom-STEPS-gGUIDANCE")
    return custom_preset(int(found[1]), float(found[2]))


def custom_preset(steps: int, guidance: float) -> Preset:
    """default-20's schedule in other steps (its last tenth at the low guidance) and with another main guidance.

    Raises:
        RequestError: steps are not 2 to MAX_STEPS, or guidance is not 1 to MAX_GUIDANCE.
    """
    if not 2 <= steps <= MAX_STEPS:
        raise RequestError(f"got {steps} steps; expected 2 to {MAX_STEPS}")
    if not 1 <= guidance <= MAX_GUIDANCE:
        raise RequestError(f"guidance is {guidance:g}; expected 1 to {MAX_GUIDANCE:g}")
    basis = PRESETS["default-20"]
    rounded = round(guidance, 2)
    final = max(1, round(steps * basis.final_steps / basis.steps))
    return Preset(f"custom-{steps}-g{rounded:g}", steps, final, basis.mu, basis.std, rounded)


def check_size(width: int, height: int, traits: Traits = IDEOGRAM4_TRAITS) -> None:
    """Raises RequestError for a size that the model cannot paint, naming the nearest one that it can."""
    for label, side in (("width", width), ("height", height)):
        if not traits.min_side <= side <= traits.max_side or side % SIDE_MULTIPLE:
            nearest = min(max(round(side / SIDE_MULTIPLE) * SIDE_MULTIPLE, traits.min_side), traits.max_side)
            raise RequestError(
                f"{label} is {side}; {traits.name} paints {traits.min_side} to {traits.max_side} pixels a side in "
                f"multiples of {SIDE_MULTIPLE}: use {nearest}"
            )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise RequestError(f"{width}x{height} is longer than {MAX_ASPECT:g}:1; use a squarer size")


def parse_size(text: str) -> tuple[int, int]:
    """'1024x768' -> (1024, 768), width first; '1024' is a square. Raises RequestError."""
    match = re.fullmatch(r"([0-9]{1,5})(?:\s*[xX×*]\s*([0-9]{1,5}))?", text.strip())
    if match is None:
        raise RequestError(f"size is {text!r}; expected WIDTHxHEIGHT in pixels, for example 1024x768, or 1024 for a square")
    return int(match[1]), int(match[2] or match[1])


def schedule_mean(preset: Preset, width: int, height: int) -> float:
    """Mean of the logit-normal schedule, shifted by resolution (sampler_configs.py): mu + ln(pixels / 512^2) / 2."""
    return preset.mu + 0.5 * math.log(width * height / 512**2)
