"""From a location to a model on a device.

The text encoder is loaded when first used and can be freed. It comes from the checkpoint, or from an artifact of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8 import memory
from ideogram_q8.architecture import BRANCHES, TEXT_TAPS, Branch, Traits, TransformerConfig
from ideogram_q8.artifact import Artifact, open_artifact
from ideogram_q8.checkpoint import POCKET, Source, TextEncoderSource, open_source, open_text_encoder
from ideogram_q8.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.decoding import LinearDecoder
from ideogram_q8.errors import ArtifactError
from ideogram_q8.manifest import FILE_NAME
from ideogram_q8.networks import (
    SourceWeights,
    WeightReader,
    build_text_encoder,
    build_transformer,
    load_tokenizer,
    load_vae,
)


@dataclass
class Model:
    """Everything that a picture needs, on one device. `dtype` is that of the activations and of unpacked weights.

    `variant` and `artifact_sha256` tell both networks where the text encoder is not the checkpoint's own.
    """

    variant: str
    artifact_sha256: str
    source: str
    folder: Path
    traits: Traits
    config: TransformerConfig
    device: torch.device
    dtype: torch.dtype
    branches: dict[Branch, Ideogram4Transformer2DModel]
    vae: AutoencoderKLFlux2
    tokenizer: PreTrainedTokenizerBase
    text_encoder_artifact: Artifact | None = None
    """Where the text encoder comes from; None is the checkpoint."""
    preview: LinearDecoder | None = field(default=None, repr=False)
    """Fitted when the first preview is asked for."""
    _text_encoder: Qwen3VLTextModel | None = field(default=None, repr=False)

    @property
    def text_encoder(self) -> Qwen3VLTextModel:
        """The language model of the text encoder, loaded on first use."""
        if self._text_encoder is None:
            self._text_encoder = build_text_encoder(*self._open_text_encoder(), self.device, self.dtype)
        return self._text_encoder

    def _open_text_encoder(self) -> tuple[WeightReader, TextEncoderConfig]:
        if self.text_encoder_artifact is not None:
            return self.text_encoder_artifact.branch("text_encoder"), self.text_encoder_artifact.text_encoder_config
        source = open_text_encoder(self.folder)
        return SourceWeights(source.branch("text_encoder")), source.config

    def free_text_encoder(self) -> None:
        """Gives its memory back; the next use loads it again."""
        self._text_encoder = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def placement(self, width: int, height: int) -> memory.Placement:
        """What a picture of this size takes.

        Raises:
            ResourceError: more than the device has.
        """
        transformers = memory.module_bytes(*self.branches.values())
        vae = memory.module_bytes(self.vae)
        loaded = 0 if self._text_encoder is None else memory.module_bytes(self._text_encoder)
        encoder = loaded or memory.weight_bytes(self._open_text_encoder()[0].files, LANGUAGE_MODEL)
        weights = memory.Weights(transformers, encoder, vae)
        available = memory.available_bytes(self.device) + transformers + vae + loaded
        channels = max((self.vae.config.decoder_block_out_channels or self.vae.config.block_out_channels)[:2])
        placement = memory.predict(weights, self.config, channels, (width, height), self.dtype, available)
        memory.check(placement.peak_bytes, available, f"a picture of {width}x{height}", self.device)
        return placement


def open_weights(
    location: str | Path, *, unconditional: str | Path | None = None, revision: str | None = None
) -> Source | Artifact:
    """Opens what `load` loads, without its weights: an artifact folder, or else what `open_source` takes.

    Raises:
        SourceError, ArtifactError: see `open_source` and `open_artifact`; or an artifact is given a second file or a revision.
    """
    if str(location) == POCKET or not (Path(location) / FILE_NAME).is_file():
        return open_source(location, unconditional=unconditional, revision=revision)
    if unconditional is not None or revision is not None:
        raise ArtifactError(f"{location} is an artifact; expected no unconditional file and no revision beside it")
    return open_artifact(location)


def load(
    location: str | Path | Source | Artifact,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    text_encoder: str | Path | None = None,
) -> Model:
    """Loads `pocket`, a source folder or Hub id (variant fp8), an artifact folder, or one of these that is open already.

    Args:
        location: open a pair of single files with `open_source` first.
        revision: branch, tag or commit, where the location is a Hub id.
        text_encoder: an artifact folder to take the text encoder from, in place of the checkpoint.

    Raises:
        SourceError, ArtifactError: the folder or one of its files is missing or not what it claims to be.
        ResourceError: the weights do not fit the device.
    """
    place = torch.device(device)
    opened = open_weights(location, revision=revision) if isinstance(location, str | Path) else location
    if isinstance(opened, Artifact):
        config = opened.transformer_config
        source, folder = _origin(opened)
        variant, digests = opened.variant, [file.sha256 for file in opened.manifest.files]
        readers: Mapping[Branch, WeightReader] = {branch: opened.branch(branch) for branch in BRANCHES}
    else:
        config = opened.config
        source, folder = opened.location, opened.folder
        variant, digests = "fp8", list(opened.record().files.values())
        readers = {branch: SourceWeights(opened.branch(branch)) for branch in BRANCHES}
    encoder = None if text_encoder is None else _open_encoder_artifact(text_encoder, config)
    if encoder is not None:
        variant = f"{variant}, text encoder {encoder.variant}"
        digests += [file.sha256 for file in encoder.manifest.files]
    weights = memory.weight_bytes([path for reader in readers.values() for path in reader.files])
    memory.check(weights, memory.available_bytes(place), f"variant {variant}", place)
    return Model(
        variant=variant,
        artifact_sha256=_identity(digests),
        source=source,
        folder=folder,
        traits=opened.traits,
        config=config,
        device=place,
        dtype=dtype,
        branches={branch: build_transformer(reader, config, place, dtype) for branch, reader in readers.items()},
        vae=load_vae(folder / "vae", place, dtype),
        tokenizer=load_tokenizer(folder / "tokenizer"),
        text_encoder_artifact=encoder,
    )


def _origin(artifact: Artifact) -> tuple[str, Path]:
    """The location that an artifact was built from, and the folder that has the other components.

    Raises:
        SourceError: it is gone.
        ArtifactError: it is the pocket, with other weights by now.
    """
    made_from = artifact.manifest.source
    file = Path(made_from.location)
    if made_from.location != POCKET and file.is_file():  # one of two, whose weights are not needed any more
        return made_from.location, file.parent
    source = open_source(made_from.location, revision=made_from.revision)
    if source.location == POCKET and made_from.files != source.record().files:
        raise ArtifactError(f"{artifact.folder} was built from other weights of pocket than these; quantize pocket again")
    return source.location, source.folder


def _identity(digests: Iterable[str]) -> str:
    """The identity of weight files, by the rule of `Manifest.artifact_sha256`: sha256 over their sorted sha256s."""
    return hashlib.sha256("".join(sorted(digests)).encode("ascii")).hexdigest()


def _open_encoder_artifact(folder: str | Path, config: TransformerConfig) -> Artifact:
    """Raises ArtifactError: no sound artifact, no text encoder, or one of another model."""
    artifact = open_artifact(folder)
    features = artifact.text_encoder_config.hidden_size * len(TEXT_TAPS)
    if features != config.llm_features_dim:
        raise ArtifactError(
            f"{folder}: the text encoder gives {features} features, the transformers read {config.llm_features_dim}; "
            "quantize the text encoder of the same checkpoint"
        )
    return artifact


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder of a checkpoint by itself: its language model, and what makes tokens of captions."""

    model: Qwen3VLTextModel
    tokenizer: PreTrainedTokenizerBase
    config: TextEncoderConfig


def load_text_encoder(
    source: TextEncoderSource, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TextEncoder:
    """Loads no transformer.

    Raises:
        SourceError: a file is missing or not what it claims to be.
        ResourceError: the weights do not fit the device.
    """
    place, reader = torch.device(device), SourceWeights(source.branch("text_encoder"))
    weights = memory.weight_bytes(reader.files, LANGUAGE_MODEL)
    memory.check(weights, memory.available_bytes(place), "the text encoder", place)
    tokenizer = load_tokenizer(source.folder / "tokenizer")
    return TextEncoder(build_text_encoder(reader, source.config, place, dtype), tokenizer, source.config)
