"""Which scheme each Linear gets, and why: frozen data, chosen by a pure function of the architecture.

    int8          attention and feed-forward Linears see thousands of tokens a step: int8 weights and activations (w8a8).
                  A modulation Linear sees one row per picture, so int8 saves it no time.
    q8_0, q4_k    all Linears inside the blocks whose width the block format divides.

The seven Linears outside the blocks stay bfloat16 everywhere, as in stable-diffusion.cpp's recipe for this model. Nothing here
knows about sensitivity: a recipe by measurement is another `choose`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Literal

from ideogram_q8.architecture import Linear, TransformerConfig, linears
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.manifest import decode, parse_json
from ideogram_q8.numerics.ggml import BLOCKS

LayerScheme = Literal["w8a8", "bf16", "q8_0", "q4_k"]
SCHEMES = ("int8", *BLOCKS)
"""What `quantize` can be asked for."""


@dataclass(frozen=True)
class LayerPlan:
    """How one Linear (official name, without `.weight`) is stored."""

    linear: str
    scheme: LayerScheme
    reason: str


@dataclass(frozen=True)
class Recipe:
    """The plans of all Linears of one branch; both branches follow the same."""

    scheme: str
    layers: tuple[LayerPlan, ...]

    def to_value(self) -> dict[str, object]:
        """The JSON value of the recipe, as in a manifest."""
        return {"scheme": self.scheme, "layers": [asdict(layer) for layer in self.layers]}

    def to_json(self) -> str:
        """The text of recipe.json; `from_json` gives the same object back."""
        return json.dumps(self.to_value(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        return decode(cls, parse_json(text, "recipe", ArtifactError), "recipe", ArtifactError)

    @property
    def sha256(self) -> str:
        """The recipe's identity: sha256 of its JSON text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def choose(scheme: str, config: TransformerConfig) -> Recipe:
    """The recipe of a scheme for a model of these dimensions.

    Raises:
        RequestError: the scheme is none of `SCHEMES`.
    """
    if scheme not in SCHEMES:
        raise RequestError(f"unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}")
    return Recipe(scheme, tuple(_plan(scheme, linear) for linear in linears(config)))


def _plan(scheme: str, linear: Linear) -> LayerPlan:
    if not linear.in_block:
        return LayerPlan(linear.name, "bf16", "outside the blocks")
    if scheme == "int8":
        if linear.sees_tokens:
            return LayerPlan(linear.name, "w8a8", "sees every token at every step")
        return LayerPlan(linear.name, "bf16", "one row per picture, int8 saves no time")
    block = BLOCKS[scheme]
    if linear.in_features % block.block_size:
        return LayerPlan(linear.name, "bf16", f"width {linear.in_features} is no multiple of {block.block_size}")
    name: LayerScheme = "q8_0" if scheme == "q8_0" else "q4_k"
    return LayerPlan(linear.name, name, "inside a block")


def explain(recipe: Recipe) -> str:
    """A table of the recipe, equal Linears of all blocks in one row."""
    rows = Counter((re.sub(r"\.\d+\.", ".*.", layer.linear), layer.scheme, layer.reason) for layer in recipe.layers)
    table = [("Linear", "count", "scheme", "reason")]
    table += [(linear, str(count), scheme, reason) for (linear, scheme, reason), count in rows.items()]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in table)
