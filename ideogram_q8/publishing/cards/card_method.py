"""How a build was made, read off its manifest's recipe: what each kind of Linear got, and the commands that make it again. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ideogram_q8.errors import ArtifactError, PublishError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.publishing.cards.escaping import Markdown, word
from ideogram_q8.recipes import NAIVE, LayerPlan, Recipe
from ideogram_q8.recipes.policies import policy_of

HIGH_PRECISION = frozenset({"bf16", "f16", "f32"})
_WORDS = {"w8a8": "int8, W8A8", "w8a16": "int8 weights only", "bf16": "bfloat16", "f16": "float16", "f32": "float32"}


class LayerRow(NamedTuple):
    """Linears of one kind that are stored alike, over all networks of the build, and why."""

    kind: str
    linears: int
    stored: str
    reason: str


def recipe_of(manifest: Manifest) -> Recipe:
    """Raises PublishError: the manifest's recipe is not of the form that this version writes."""
    try:
        return Recipe.from_value(manifest.recipe)
    except ArtifactError as error:
        raise PublishError(f"the manifest's recipe is not understood ({error}); quantize again with this version") from error


def layer_rows(recipe: Recipe, kept: bool) -> list[LayerRow]:
    """The Linears that stay in high precision, or all others, grouped by kind, by how they are stored and, where `kept`, by why."""
    found = [layer for layer in recipe.layers if (layer.scheme in HIGH_PRECISION) == kept]
    groups = Counter((_kind(layer.linear), _stored(layer), _short(layer.reason) if kept else "") for layer in found)
    return [LayerRow(kind, count, stored, reason) for (kind, stored, reason), count in groups.items()]


def _kind(linear: str) -> str:
    """A Linear's name with a star for the block's number."""
    return re.sub(r"\.\d+\.", ".*.", linear)


def _stored(layer: LayerPlan) -> str:
    words = [_WORDS.get(layer.scheme, layer.scheme.upper())]
    words += [f"rotated in groups of {layer.rotation}"] if layer.rotation else []
    return ", ".join(words + (["importance-weighted"] if layer.weighted else []))


def _short(reason: str) -> str:
    """Without the Linear's own measurements: they would make a row of each."""
    return reason.split(":")[0]


def policy_text(recipe: Recipe) -> str:
    """What the recipe's policy does, "" of one that is not known here or does what the scheme's name says."""
    policy = policy_of(recipe.policy)
    return "" if policy is None else policy.sentence


def commands(manifest: Manifest, recipe: Recipe, source: str, place: str) -> Iterator[Markdown]:
    """What makes the build again beside `place`, from the source and the manifest.json that was downloaded there."""
    out = word(f"{place}-again")
    quantize = f"python -m ideogram_q8 quantize {word(source)}"
    weighted = " --importance stats.safetensors" if recipe.is_weighted else ""
    if recipe.is_weighted:
        yield _calibrate(manifest, source)
    if recipe.policy in ("naive", "imatrix"):
        yield Markdown(f"{quantize} --scheme {word(manifest.scheme)}{weighted} --out {out}")
        return
    stored = json.dumps(f"{place}/manifest.json")
    copy = f'import json; json.dump(json.load(open({stored}))["recipe"], open("recipe.json", "w"))'
    yield Markdown(f"python -c {word(copy)}")
    yield Markdown(f"{quantize} --recipe recipe.json{weighted} --out {out}")


def recipe_commands(manifest: Manifest, recipe: Recipe, source: str) -> Iterator[Markdown]:
    """What made the recipe, for a policy of `recipe make`."""
    policy = policy_of(recipe.policy)
    if policy is None or policy.name == NAIVE:
        return
    stats = " --stats stats.safetensors" if recipe.stats_sha256 else ""
    if recipe.stats_sha256:
        yield _calibrate(manifest, source)
    yield Markdown(f"python -m ideogram_q8 recipe make {word(source)} --policy {word(policy.name)}{stats} --out recipe.json")


def _calibrate(manifest: Manifest, source: str) -> Markdown:
    return Markdown(f"python -m ideogram_q8 calibrate {word(source)} --captions {_captions(manifest)} --out stats.safetensors")


def _captions(manifest: Manifest) -> str:
    return "pocket" if manifest.source.location == "pocket" else "ideogram-calibration"
