"""What a variant's networks are, as numbers for `budget`: of opened files by their headers, of Ideogram 4 from its architecture alone."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.gguf_build import GgufBuild
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.safetensors_file import SafetensorsFile
from ideogram_q8.formats.text import read_json
from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, SIDE_MULTIPLE, Branch, TransformerConfig, linears
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.model.schemes import NAMED_SCHEMES
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.memory import usage
from ideogram_q8.runtime.memory.budget import Encoder, Networks
from ideogram_q8.sources import Source, open_text_encoder

_ORIGINALS = ("fp8", "nf4")
IDEOGRAM4_VARIANTS = (*_ORIGINALS, *NAMED_SCHEMES)
"""What `of_ideogram4` knows."""
_VAE_PARAMETERS, _VAE_CHANNELS = 84_046_371, (256, 128)
"""Of the FLUX.2 VAE (black-forest-labs/FLUX.2-dev, vae/config.json: block_out_channels 128, 256, 512, 512)."""
_ENCODER_LAYERS, _ENCODER_LAYER, _ENCODER_ROWS = 36, 192_937_984, 38_912
_ENCODER_EMBEDDING, _ENCODER_WIDTH = 151_936 * 4096, 4096
"""Of Qwen3-VL-8B-Instruct's language model (Qwen/Qwen3-VL-8B-Instruct, config.json): a layer's weights, and their rows."""


def schemes(opened: Source | Artifact | GgufBuild) -> dict[Branch, dict[str, str]]:
    """The scheme of each Linear, by branch and official name."""
    if isinstance(opened, Artifact):
        return {branch: {plan.linear: plan.scheme for plan in opened.recipe.parts[branch].layers} for branch in opened.branches}
    config = opened.transformer_config if isinstance(opened, GgufBuild) else opened.config
    names = [linear.name for linear in linears(config)]
    return {branch: {name: opened.branch(branch).scheme(name) for name in names} for branch in opened.branches}


def vae_channels(config: Any) -> tuple[int, int]:
    """Channels for `Networks.vae_channels`, from diffusers' config of a VAE (a mapping)."""
    widths = config.get("decoder_block_out_channels") or config["block_out_channels"]
    return widths[1], widths[0]


def encoder(config: TextEncoderConfig, total: int, dtype: torch.dtype) -> Encoder:
    """Describes a text encoder whose language model has `total` bytes; its embedding is not quantized."""
    embedding = config.vocab_size * config.hidden_size * dtype.itemsize
    return Encoder(total, -(-max(0, total - embedding) // config.num_layers), config.hidden_size)


def of_ideogram4(variant: str, dtype: torch.dtype = torch.bfloat16) -> Networks:
    """Ideogram 4 in one of IDEOGRAM4_VARIANTS, its text encoder in FP8, without any file.

    Raises:
        RequestError: an unknown variant.
    """
    if variant not in IDEOGRAM4_VARIANTS:
        raise RequestError(f"unknown variant {variant!r}; expected one of {', '.join(IDEOGRAM4_VARIANTS)}, or a location")
    layer = _ENCODER_LAYER + 4 * _ENCODER_ROWS
    total = _ENCODER_LAYERS * layer + _ENCODER_EMBEDDING * dtype.itemsize
    return Networks(
        IDEOGRAM4,
        _ideogram4_schemes(variant),
        Encoder(total, layer, _ENCODER_WIDTH),
        _VAE_PARAMETERS * dtype.itemsize,
        _VAE_CHANNELS,
        dtype,
    )


def of_files(opened: Source | Artifact | GgufBuild, folder: Path, config: TransformerConfig, dtype: torch.dtype) -> Networks:
    """What would be loaded from opened transformers and from a checkpoint's `folder` with the rest; reads headers only.

    Raises:
        SourceError, ArtifactError: a part is missing or not what it claims to be.
    """
    text = open_text_encoder(folder)
    total = usage.weight_bytes(text.branch("text_encoder").files, LANGUAGE_MODEL, dtype)
    channels = vae_channels(read_json(folder / "vae" / "config.json"))
    elements = 0
    for path in sorted((folder / "vae").glob("*.safetensors")):
        elements += sum(math.prod(shape) for _, shape in SafetensorsFile(path).tensors().values())
    return Networks(config, schemes(opened), encoder(text.config, total, dtype), elements * dtype.itemsize, channels, dtype)


def pair(networks: Networks, size: tuple[int, int]) -> table.Pair:
    """What of both branches is measured one after the other and at once, for pictures of `size` (width, height)."""
    config = networks.config
    names = [linear.name for linear in linears(config) if linear.sees_tokens]
    counted = collections.Counter(schemes_[name] for schemes_ in networks.schemes.values() for name in names)
    scheme = counted.most_common(1)[0][0]
    return table.Pair(
        table.bucket(size[0] * size[1] // SIDE_MULTIPLE**2),
        config.hidden_size,
        config.intermediate_size,
        scheme,
        networks.compute if scheme in BLOCKS else COMPUTES[0],
        networks.attention,
        str(networks.dtype).removeprefix("torch."),
    )


def _ideogram4_schemes(variant: str) -> Mapping[Branch, Mapping[str, str]]:
    if variant in _ORIGINALS:
        return {branch: {linear.name: variant for linear in linears(IDEOGRAM4)} for branch in BRANCHES}
    parts = choose(variant, IDEOGRAM4).parts
    return {branch: {plan.linear: plan.scheme for plan in parts[branch].layers} for branch in BRANCHES}
