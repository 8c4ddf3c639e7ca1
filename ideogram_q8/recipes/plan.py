"""Which scheme each Linear gets, and why: frozen data. `choose` makes the recipes that need no measurement.

    int8          attention and feed-forward Linears see thousands of tokens a step: int8 weights and activations (w8a8).
                  A modulation Linear sees one row per picture, so int8 saves it no time.
    GGUF          all Linears inside the blocks, by the table in `ideogram_q8.model.schemes`.

The seven Linears outside the blocks stay bfloat16 everywhere, as in stable-diffusion.cpp's recipe for this model. Policies that
look at measurements (`ideogram_q8.policies`) make recipes of the same form: protected and rotated Linears, and smoothing
exponents, which lie in the recipe itself so that a recipe and a source are all that an artifact needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.names import is_line, is_sha256
from ideogram_q8.formats.strict_json import check_version, decode, parse_json
from ideogram_q8.model.architecture import BRANCHES, Linear, PartName, split_block
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.model.schemes import (
    BLOCKS,
    INT8,
    INT8_SCHEMES,
    NAMED_SCHEMES,
    PRESETS,
    SCHEMES,
    LayerScheme,
    can_be_weighted,
    gguf_types,
    layer_schemes,
)

FORMAT_VERSION = 2
MAX_CHARACTERS = 1 << 24
"""More than the recipe of the real model can have: an untrusted file is not read further."""
NAIVE = "naive"
"""The policy of `choose`: one rule for all Linears of a kind, nothing measured."""


@dataclass(frozen=True)
class LayerPlan:
    """How one Linear (official name, without `.weight`) is stored.

    `w8a16` is int8 without quantized activations; `rotation` is the size of the groups of inputs that are rotated, 0 = none.
    With `weighted`, ggml's search weighs the error of each input by its mean square in the recipe's statistics.
    """

    linear: str
    scheme: LayerScheme
    rotation: int
    reason: str
    weighted: bool = False


@dataclass(frozen=True)
class Smoothing:
    """Powers of two that move between a fold point's producer and its consumers.

    `exponents` is the text form (`numerics.smoothing.encode`) of int8 [K]: the consumers' columns are multiplied by 2^e, the
    producer by 2^-e, so that activations arrive divided by 2^e.
    """

    fold: str
    exponents: str


@dataclass(frozen=True)
class Part:
    """The plans of all Linears of one network."""

    layers: tuple[LayerPlan, ...]
    smoothing: tuple[Smoothing, ...]


@dataclass(frozen=True)
class Recipe:
    """`scheme` is the number format of the files, `policy` what chose; `parts` has one entry for each branch, or one `text_encoder`.

    `stats_sha256` names the statistics that the policy looked at or that weigh, if any.
    """

    format_version: int
    scheme: str
    policy: str
    stats_sha256: str | None
    parts: Mapping[str, Part]

    @property
    def variant(self) -> str:
        """The name of what the recipe makes: `int8`, `int8-paper`, ..."""
        return self.scheme if self.policy == NAIVE else f"{self.scheme}-{self.policy}"

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """The plans of all Linears, one part after the other."""
        return tuple(layer for part in self.parts.values() for layer in part.layers)

    @property
    def smoothed(self) -> int:
        """Number of fold points where scales are moved into the weights."""
        return sum(len(part.smoothing) for part in self.parts.values())

    @property
    def is_rotated(self) -> bool:
        """Whether any Linear is rotated."""
        return any(layer.rotation for layer in self.layers)

    @property
    def is_weighted(self) -> bool:
        """Whether the importance of inputs weighs the search of any Linear."""
        return any(layer.weighted for layer in self.layers)

    @property
    def has_weight_only(self) -> bool:
        """Whether any int8 Linear leaves activations alone."""
        return any(layer.scheme == "w8a16" for layer in self.layers)

    def to_value(self) -> dict[str, object]:
        """The JSON value of the recipe, as in a manifest."""
        value: dict[str, object] = json.loads(self.to_json())
        return value

    def to_json(self) -> str:
        """The text of recipe.json; `from_json` gives the same object back."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        return cls.from_value(parse_json(text, "recipe", ArtifactError))

    @classmethod
    def from_value(cls, value: object) -> Recipe:
        """Raises ArtifactError: see `from_json`."""
        check_version(value, FORMAT_VERSION, "recipe", ArtifactError, "use another release")
        recipe = decode(cls, value, "recipe", ArtifactError)
        if recipe.scheme not in SCHEMES:
            raise ArtifactError(f"recipe: scheme is {recipe.scheme[:60]!r}, expected one of {', '.join(SCHEMES)}")
        odd = next((layer for layer in recipe.layers if layer.scheme not in layer_schemes()), None)
        if odd is not None:
            known = ", ".join(map(repr, layer_schemes()))
            raise ArtifactError(f"recipe: {odd.linear[:80]!r}: scheme is {odd.scheme[:60]!r}, expected one of {known}")
        if set(recipe.parts) not in (set(BRANCHES), {"conditional"}, {"text_encoder"}):
            names = ", ".join(recipe.parts)[:200] or "none"
            raise ArtifactError(
                f"recipe: parts are {names}; expected {', '.join(BRANCHES)}, conditional alone, or text_encoder"
            )
        if not re.fullmatch(r"[a-z0-9_.-]{1,40}", recipe.policy):
            raise ArtifactError(f"recipe: policy is {recipe.policy[:60]!r}, expected a short name in lower case")
        _check_texts(recipe)
        return recipe

    @property
    def sha256(self) -> str:
        """The recipe's identity: sha256 of its JSON text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def only(self, parts: Collection[PartName]) -> Recipe:
        """The recipe for a model that has these parts alone: each part is planned by itself. Raises ArtifactError: it lacks one."""
        if not set(parts) <= set(self.parts):
            raise ArtifactError(f"recipe: is for {' and '.join(self.parts)}, not for {' and '.join(parts)}; use another recipe")
        return replace(self, parts={name: part for name, part in self.parts.items() if name in parts})

    def check(self, config: Dimensions) -> None:
        """Raises ArtifactError unless each part plans exactly the Linears of a model of these dimensions, as they can be stored."""
        model = component(config)
        if set(self.parts) not in (set(model.parts), set(model.parts[:1])):
            raise ArtifactError(
                f"recipe: is for {' and '.join(self.parts)}, not for {' and '.join(model.parts)}; use another recipe"
            )
        if self.stats_sha256 is None and self.is_weighted:
            raise ArtifactError("recipe: Linears are weighted, but stats_sha256 names no statistics; make the recipe again")
        expected = [linear.name for linear in model.linears]
        for name, part in self.parts.items():
            found = [layer.linear for layer in part.layers]
            for odd in sorted(set(found) ^ set(expected)):
                reason = "has no plan" if odd in expected else "is no Linear of this model"
                raise ArtifactError(f"recipe: {name}: {odd} {reason}; was it made for another model?")
            if found != expected:
                raise ArtifactError(f"recipe: {name}: Linears are planned twice or out of order; make the recipe again")
            folds = {item.fold for item in part.smoothing}
            for layer, linear in zip(part.layers, model.linears, strict=True):
                problem = problem_of(self.scheme, layer, linear, fold_of(layer.linear) in folds)
                if problem is not None:
                    raise ArtifactError(f"recipe: {name}: {layer.linear} {problem}; make the recipe again")


def _check_texts(recipe: Recipe) -> None:
    if recipe.stats_sha256 is not None and not is_sha256(recipe.stats_sha256):
        raise ArtifactError(f"recipe: stats_sha256 is {recipe.stats_sha256[:80]!r}, expected a sha256")
    names = [layer.linear for layer in recipe.layers]
    names += [item.fold for part in recipe.parts.values() for item in part.smoothing]
    for name in names:  # reasons are free texts, which whoever shows them escapes
        if not is_line(name, 256):
            raise ArtifactError(f"recipe: a component's name is {name[:80]!r}, expected one line of at most 256 characters")


def problem_of(scheme: str, layer: LayerPlan, linear: Linear, smoothed: bool) -> str | None:
    """Why a plan cannot be stored in files of a scheme."""
    if layer.scheme not in ((*INT8_SCHEMES, "bf16") if scheme == INT8 else gguf_types()):
        return f"is planned as {layer.scheme}, which files of scheme {scheme} do not hold"
    if layer.scheme in BLOCKS and linear.in_features % BLOCKS[layer.scheme].block_size:
        return f"has {linear.in_features} inputs, no multiple of {layer.scheme}'s {BLOCKS[layer.scheme].block_size}"
    if layer.weighted and (not can_be_weighted(layer.scheme) or smoothed):
        return f"is weighted and {'smoothed' if smoothed else f'planned as {layer.scheme}, which has no weighted form'}"
    if layer.rotation == 0:
        return None
    if layer.scheme not in INT8_SCHEMES:
        return f"is rotated and planned as {layer.scheme}; only int8 is rotated"
    if layer.rotation not in (4, 16, 64, 256, 1024) or linear.in_features % layer.rotation:
        return f"is rotated by {layer.rotation}; expected a power of 4 that divides its {linear.in_features} inputs"
    return None


def choose(scheme: str, config: Dimensions) -> Recipe:
    """The naive recipe of a scheme for a model of these dimensions; both branches get the same.

    Raises:
        RequestError: the scheme is none of `NAMED_SCHEMES`.
    """
    if scheme not in NAMED_SCHEMES:
        raise RequestError(f"unknown scheme {scheme!r}; expected one of {', '.join(NAMED_SCHEMES)}")
    model = component(config)
    part = Part(tuple(_plan(scheme, linear, config.num_layers) for linear in model.linears), ())
    return Recipe(FORMAT_VERSION, scheme, NAIVE, None, dict.fromkeys(model.parts, part))


def _plan(scheme: str, linear: Linear, blocks: int) -> LayerPlan:
    if not linear.in_block:
        return LayerPlan(linear.name, "bf16", 0, outside_the_blocks(linear))
    if scheme == INT8:
        if linear.sees_tokens:
            return LayerPlan(linear.name, "w8a8", 0, "sees every token at every step")
        return LayerPlan(linear.name, "bf16", 0, "one row per picture, int8 saves no time")
    _, block, kind = split_stack(linear.name)
    chosen, reason = PRESETS[scheme].choose(kind, int(block), blocks)
    return fitting(linear, chosen, reason)


def fitting(linear: Linear, scheme: LayerScheme, reason: str) -> LayerPlan:
    """A plan of a GGUF type, or of the nearest that a Linear's width can have."""
    width = linear.in_features
    for wanted in (scheme, BLOCKS[scheme].fallback if scheme in BLOCKS else None):
        if wanted is not None and (wanted not in BLOCKS or width % BLOCKS[wanted].block_size == 0):
            missed = (
                f"width {width} is no multiple of {BLOCKS[scheme].block_size}; else {scheme}" if wanted != scheme else reason
            )
            return LayerPlan(linear.name, wanted, 0, missed)
    return LayerPlan(linear.name, "bf16", 0, f"width {width} is no multiple of {BLOCKS['q8_0'].block_size}")


def split_stack(linear: str) -> tuple[str, str, str]:
    """What a stack of blocks is called and the block's number, both empty outside of any, and the rest of the name."""
    match = re.fullmatch(r"((?:language_model\.)?layers\.|visual\.blocks\.)([0-9]{1,4})\.(.+)", linear)
    return (match[1], match[2], match[3]) if match else ("", "", linear)


def outside_the_blocks(linear: Linear) -> str:
    """Why a Linear outside the blocks stays bfloat16.

    That of the vision tower could be int8 weights alone, for 0.57 GB less of 9.3. But no caption runs it, so nothing would get
    faster and nothing could be measured, and whoever gives the text encoder pictures elsewhere gets those of the source.
    """
    return "outside the blocks" if linear.runs else "vision tower, which no caption runs"


FOLDS: Mapping[str, str] = {
    "attention.qkv": "attention_norm1",
    "attention.o": "attention.v",
    "feed_forward.w1": "ffn_norm1",
    "feed_forward.w3": "ffn_norm1",
    "feed_forward.w2": "feed_forward.w3",
    "self_attn.q_proj": "input_layernorm",
    "self_attn.k_proj": "input_layernorm",
    "self_attn.v_proj": "input_layernorm",
    "self_attn.o_proj": "self_attn.v_proj",
    "mlp.gate_proj": "post_attention_layernorm",
    "mlp.up_proj": "post_attention_layernorm",
    "mlp.down_proj": "mlp.up_proj",
}
"""Which fold point scales the columns of a Linear, by the kinds of both components; `ideogram_q8.recipes.folding` says what they are."""


def fold_of(linear: str) -> str | None:
    """The fold point whose exponents scale the columns of a Linear: `layers.3.attention.o` -> `layers.3.attention.v`."""
    block, kind = split_block(linear)
    return f"{block}{FOLDS[kind]}" if block and kind in FOLDS else None
