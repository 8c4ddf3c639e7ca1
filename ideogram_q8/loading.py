"""From a location to a model on a device.

The text encoder is loaded when first used and can be freed. It comes from the checkpoint, or from an artifact of its own.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8 import budget, caption_cache, inventory, memory
from ideogram_q8.architecture import BRANCHES, SIDE_MULTIPLE, Branch, Traits, TransformerConfig
from ideogram_q8.artifact import Artifact
from ideogram_q8.artifact.gguf_build import GgufBuild
from ideogram_q8.budget import Plan
from ideogram_q8.caption_cache import CaptionCache
from ideogram_q8.checkpoint import Source, TextEncoderSource, open_text_encoder
from ideogram_q8.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.decoding import Denormalization, LinearDecoder, denormalization
from ideogram_q8.devices import AUTO, COMPUTES
from ideogram_q8.kernels import BlockProduct, block_products
from ideogram_q8.layers import GgmlLinear, Int8Linear
from ideogram_q8.networks import (
    SourceWeights,
    WeightReader,
    build_text_encoder,
    build_transformer,
    load_tokenizer,
    load_vae,
)
from ideogram_q8.opening import Build, open_text_encoder_build, open_weights, origin
from ideogram_q8.streaming import SLOTS, stream_blocks, stream_encoder


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
    schemes: Mapping[Branch, Mapping[str, str]] = field(repr=False)
    """As `inventory.schemes`."""
    text_encoder_build: Artifact | GgufBuild | None = None
    """Where the text encoder comes from; None is the checkpoint."""
    compute: str = COMPUTES[0]
    """One of COMPUTES, what Linears in ggml's blocks compute in."""
    preview: LinearDecoder | None = field(default=None, repr=False)
    """Fitted when the first preview is asked for."""
    plan: Plan | None = None
    """What is streamed; None is nothing."""
    overlap: bool = False
    """On CUDA, with nothing streamed: both branches at once on two streams, which takes the activations of both."""
    captions: CaptionCache | None = field(default_factory=caption_cache.from_environment)
    """Where projected captions are kept; None keeps none."""
    projection_digest: str | None = None
    """As `text.projection_digest`, computed when first needed."""
    enter: dict[Branch, Callable[[int], None]] = field(default_factory=dict, repr=False)
    """Of branches that are streamed: what fetches a block before it runs."""
    _text_encoder: Qwen3VLTextModel | None = field(default=None, repr=False)

    def stream(self, branches: Sequence[Branch], device: torch.device) -> None:
        """Makes a model whose `branches` were loaded on the CPU run on `device`, for good: their blocks visit it one at a time.

        Args:
            branches: in the order in which a step runs them.
        """
        self.device = device
        self.enter = dict(zip(branches, stream_blocks([self.branches[branch] for branch in branches], device), strict=True))

    def products(self, size: tuple[int, int]) -> tuple[BlockProduct, ...]:
        """The W8A8 products of a block for a picture of `size` (width, height), as far as this model has any."""
        rows = size[0] * size[1] // SIDE_MULTIPLE**2
        layers = [module for branch in self.branches.values() for module in branch.layers.modules()]
        rotations = {layer.rotation for layer in layers if isinstance(layer, Int8Linear) and not layer.weight_only}
        if any(isinstance(layer, GgmlLinear) and "scale" in layer.packed_names for layer in layers):
            rotations.add(0)
        found = (block_products(self.config, rows, self.device, self.dtype, rotation) for rotation in sorted(rotations))
        return tuple(itertools.chain.from_iterable(found))

    @functools.cached_property
    def denormalization(self) -> Denormalization:
        """What makes the VAE's latents of the transformers'."""
        return denormalization(self.vae, self.traits, self.config)

    @property
    def text_encoder(self) -> Qwen3VLTextModel:
        """The language model of the text encoder, loaded on first use."""
        if self._text_encoder is None:
            streamed = self.plan is not None and self.plan.encoder == "streamed"
            place = torch.device("cpu") if streamed else self.device
            self._text_encoder = build_text_encoder(*self._open_text_encoder(), place, self.dtype, self.compute)
            if streamed:
                stream_encoder(self._text_encoder, self.device)
        return self._text_encoder

    def text_files(self) -> tuple[Path, ...]:
        """The files that text encoder and tokenizer are made from."""
        return *self._open_text_encoder()[0].files, *sorted((self.folder / "tokenizer").iterdir())

    def _open_text_encoder(self) -> tuple[WeightReader, TextEncoderConfig]:
        if self.text_encoder_build is not None:
            return self.text_encoder_build.branch("text_encoder"), self.text_encoder_build.text_encoder_config
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
        if self.plan is not None and self.plan.encoder == "streamed":
            encoder = SLOTS * self._networks(encoder).encoder.layer
        weights = memory.Weights(transformers, encoder, vae)
        available = memory.available_bytes(self.device) + transformers + vae + loaded
        needed = budget.activations(self._networks(encoder), (width, height), device=self.device.type)
        placement = memory.predict(weights, needed, available)
        memory.check(placement.peak_bytes, available, f"a picture of {width}x{height}", self.device)
        return placement

    def _networks(self, encoder: int) -> budget.Networks:
        dimensions = self._open_text_encoder()[1]
        return budget.Networks(
            self.config,
            self.schemes,
            inventory.encoder(dimensions, encoder, self.dtype),
            memory.module_bytes(self.vae),
            inventory.vae_channels(self.vae.config),
            self.dtype,
            self.compute,
        )


def load(
    location: str | Path | Source | Artifact | Build,
    *,
    unconditional: str | Path | None = None,
    source: str | Path | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    text_encoder: str | Path | None = None,
    compute: str = COMPUTES[0],
    plan: Plan | None = None,
) -> Model:
    """Loads `pocket`, a source folder or Hub id (variant fp8), an artifact folder, GGUF files, or what is open already.

    Args:
        location, unconditional, source, revision: as `open_weights` takes them, where the location is not open already.
        text_encoder: an artifact folder or a GGUF file to take the text encoder from, in place of the checkpoint.
        compute: one of COMPUTES, what Linears in ggml's blocks compute in.
        plan: what is streamed; None is, on CUDA, the first of `budget.PLANS` with room for a picture of the model's own size.

    Raises:
        SourceError, ArtifactError: the folder or one of its files is missing or not what it claims to be.
        ResourceError: the weights do not fit the device.
    """
    place = torch.device(device)
    if isinstance(location, str | Path):
        opened = open_weights(location, unconditional=unconditional, source=source, revision=revision)
    else:
        opened = location
    if isinstance(opened, Source):
        config, made_from, folder = opened.config, opened.location, opened.folder
        variant, digests = "fp8", list(opened.record().files.values())
        readers: Mapping[Branch, WeightReader] = {branch: SourceWeights(opened.branch(branch)) for branch in BRANCHES}
    else:
        build = opened.weights if isinstance(opened, Build) else opened
        config = build.transformer_config
        made_from, folder = origin(opened)
        variant, digests = build.variant, list(build.digests)
        readers = {branch: build.branch(branch) for branch in BRANCHES}
    encoder = None if text_encoder is None else open_text_encoder_build(Path(text_encoder), config, folder)
    if encoder is not None:
        variant = f"{variant}, text encoder {encoder.variant}"
        digests += encoder.digests
    plan = plan or find_plan(AUTO, opened, opened.traits.default_size, place, dtype, compute)
    streamed = () if plan is None else plan.streamed
    weights = memory.weight_bytes([path for branch in BRANCHES if branch not in streamed for path in readers[branch].files])
    memory.check(weights, memory.available_bytes(place), f"variant {variant}", place)
    homes = {branch: torch.device("cpu") if branch in streamed else place for branch in BRANCHES}
    model = Model(
        variant=variant,
        artifact_sha256=_identity(digests),
        source=made_from,
        folder=folder,
        traits=opened.traits,
        config=config,
        device=place,
        dtype=dtype,
        branches={
            branch: build_transformer(reader, config, homes[branch], dtype, compute, branch == "conditional")
            for branch, reader in readers.items()
        },
        vae=load_vae(folder / "vae", place, dtype),
        tokenizer=load_tokenizer(folder / "tokenizer"),
        schemes=inventory.schemes(opened.weights if isinstance(opened, Build) else opened),
        text_encoder_build=encoder,
        compute=compute,
        plan=plan,
    )
    if streamed:
        model.stream(streamed, place)
    for product in model.products(opened.traits.default_size):
        product.choose()  # tries the back ends now, and says in the log which runs
    return model


def find_plan(
    key: str,
    opened: Source | Artifact | Build,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    compute: str = COMPUTES[0],
) -> Plan | None:
    """The plan that a person asks for by its key; `auto` is the first with room for pictures of `size` on a CUDA device, or None.

    Raises:
        RequestError: there is no such plan for this kind of device.
    """
    if key != AUTO:
        return budget.plan_named(key, device.type)
    if device.type != "cuda":
        return None
    fits = budget.first_that_fits(describe(opened, dtype, compute), size, memory.available_bytes(device))
    return None if fits is None else fits.plan


def _identity(digests: Iterable[str]) -> str:
    """The identity of weight files, by the rule of `Manifest.artifact_sha256`: sha256 over their sorted sha256s."""
    return hashlib.sha256("".join(sorted(digests)).encode("ascii")).hexdigest()


def describe(opened: Source | Artifact | Build, dtype: torch.dtype, compute: str = COMPUTES[0]) -> budget.Networks:
    """What `load` would load, as numbers, from headers alone.

    Raises:
        SourceError, ArtifactError: as `load`.
    """
    if isinstance(opened, Source):
        return inventory.of_files(opened, opened.folder, opened.config, dtype)
    build = opened.weights if isinstance(opened, Build) else opened
    return replace(inventory.of_files(build, origin(opened)[1], build.transformer_config, dtype), compute=compute)


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
