"""The text encoder by itself, without transformers: from a checkpoint, or from a build of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.encoder_file import EncoderFile
from ideogram_q8.builds.gguf_build import GgufBuild
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.runtime.loading.networks import WeightReader, build_text_encoder, load_tokenizer
from ideogram_q8.runtime.memory import usage
from ideogram_q8.sources import TextEncoderSource, open_text_encoder


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder: the language model, and what makes tokens of captions."""

    model: Qwen3VLTextModel
    tokenizer: PreTrainedTokenizerBase
    config: TextEncoderConfig


def encoder_weights(
    folder: Path, build: Artifact | GgufBuild | EncoderFile | None = None
) -> tuple[WeightReader, TextEncoderConfig]:
    """The weights and dimensions of a build, or of the checkpoint in `folder`. Raises SourceError."""
    if build is not None:
        return build.branch("text_encoder"), build.text_encoder_config
    source = open_text_encoder(folder)
    return SourceWeights(source.branch("text_encoder")), source.config


def load_text_encoder(
    source: TextEncoderSource,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    build: Artifact | GgufBuild | EncoderFile | None = None,
    compute: str = COMPUTES[0],
) -> TextEncoder:
    """Loads the text encoder of a checkpoint, or a build of it with the checkpoint's tokenizer.

    Args:
        compute: one of COMPUTES, what Linears in ggml's blocks compute in.

    Raises:
        SourceError: a file is missing or not what it claims to be.
        ResourceError: the weights do not fit the device.
    """
    place, (reader, config) = torch.device(device), encoder_weights(source.folder, build)
    weights = usage.weight_bytes(reader.files, LANGUAGE_MODEL)
    usage.check(weights, usage.room(place), "the text encoder", place)
    tokenizer = load_tokenizer(source.folder / "tokenizer")
    return TextEncoder(build_text_encoder(reader, config, place, dtype, compute), tokenizer, config)
