"""From a location to a model on a device.

The text encoder is loaded when first used and can be freed. It comes from the checkpoint, or from an artifact of its own.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.encoder_file import EncoderFile
from ideogram_q8.builds.gguf_build import GgufBuild
from ideogram_q8.builds.opening import Build, open_text_encoder_build, open_weights, origin
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.errors import ResourceError
from ideogram_q8.formats.manifest import identity, variant_name
from ideogram_q8.machine.devices import ATTENTIONS, AUTO, COMPUTES
from ideogram_q8.model.architecture import BRANCHES, SIDE_MULTIPLE, Branch, Traits, TransformerConfig
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.model.latent_norm import latent_norm
from ideogram_q8.runtime.generation.decoding import Denormalization, denormalization
from ideogram_q8.runtime.generation.denoising import Side, side_of
from ideogram_q8.runtime.generation.preview import Preview, choose_preview
from ideogram_q8.runtime.kernels import BlockProduct, block_products
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.choosing.trials import try_programs
from ideogram_q8.runtime.layers.packed import GgmlLinear, Int8Linear
from ideogram_q8.runtime.loading.networks import (
    WeightReader,
    build_text_encoder,
    build_transformer,
    load_tokenizer,
    load_vae,
)
from ideogram_q8.runtime.loading.planning import describe, find_plan
from ideogram_q8.runtime.loading.streaming import SLOTS, stream_blocks, stream_encoder
from ideogram_q8.runtime.loading.text_encoder import encoder_weights
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.runtime.memory.budget import Plan
from ideogram_q8.runtime.text import caption_cache
from ideogram_q8.runtime.text.caption_cache import CaptionCache
from ideogram_q8.sources import Source

_log = logging.getLogger(__name__)


@dataclass
class Model:
    """Everything that a picture needs, on one device. `dtype` is that of the activations and of unpacked weights.

    `variant` and `artifact_sha256` tell both networks where the text encoder is not the checkpoint's own, and `compute` and `attention`
    where they are not the usual ones: pictures made with others are another variant's.
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
    text_encoder_build: Artifact | GgufBuild | EncoderFile | None = None
    """Where the text encoder comes from; None is the checkpoint."""
    compute: str = COMPUTES[0]
    """One of COMPUTES, what Linears in ggml's blocks compute in; the first where there are none."""
    attention: str = ATTENTIONS[0]
    """One of ATTENTIONS."""
    preview_decoder: Path | None = None
    """A tiny decoder to show steps with, as `preview.load_tiny` takes it; None looks for one."""
    plan: Plan | None = None
    """What is streamed; None is nothing."""
    overlap: bool | None = None
    """Whether both branches run at once on two streams, on CUDA, with nothing streamed and room for the activations of both.

    None is what `bench tune` found faster for pictures of this size; back to back where it has not measured.
    """
    captions: CaptionCache | None = field(default_factory=caption_cache.from_environment)
    """Where projected captions are kept; None keeps none."""
    projection_digest: str | None = None
    """As `encoding.projection_digest`, computed when first needed."""
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

    @functools.cached_property
    def preview(self) -> Preview:
        """What shows the steps, chosen when the first preview is asked for."""
        normalised = latent_norm(self.traits, self.config) == "vae.bn"
        return choose_preview(
            self.vae, self.denormalization, normalised=normalised, folder=self.folder, named=self.preview_decoder
        )

    @functools.cached_property
    def side(self) -> Side | None:
        """Where one branch runs while the other does, the same for all pictures; None on a device without streams."""
        return side_of(self.device)

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

    def whole_text_encoder(self) -> Qwen3VLTextModel | None:
        """The text encoder, all of it on the device; None where it is streamed, or has no room beside the rest."""
        if self.plan is not None and self.plan.encoder == "streamed":
            return None
        needed = 0 if self._text_encoder else self._encoder_bytes()
        return None if needed > usage.room(self.device) else self.text_encoder

    def text_files(self) -> tuple[Path, ...]:
        """The files that text encoder and tokenizer are made from."""
        return *self._open_text_encoder()[0].files, *sorted((self.folder / "tokenizer").iterdir())

    def _open_text_encoder(self) -> tuple[WeightReader, TextEncoderConfig]:
        return encoder_weights(self.folder, self.text_encoder_build)

    def free_text_encoder(self) -> None:
        """Gives its memory back; the next use loads it again."""
        self._text_encoder = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def device_bytes(self) -> int:
        """Bytes of all networks that are on the device now."""
        encoder = () if self._text_encoder is None else (self._text_encoder,)
        return usage.module_bytes(*self.branches.values(), self.vae, *encoder, device=self.device)

    def has_room(self, width: int, height: int) -> bool:
        """Whether the device has room for a picture of this size as the model is placed."""
        try:
            self.placement(width, height)
        except ResourceError:
            return False
        return True

    def placement(self, width: int, height: int) -> usage.Placement:
        """What a picture of this size takes; both branches at once only where that costs nothing else its room.

        Raises:
            ResourceError: more than the device has.
        """
        transformers = usage.module_bytes(*self.branches.values(), device=self.device)
        vae = usage.module_bytes(self.vae)
        loaded = 0 if self._text_encoder is None else usage.module_bytes(self._text_encoder, device=self.device)
        encoder = self._encoder_bytes()  # by its files, loaded or not: what is streamed has most of it elsewhere
        if self.plan is not None and self.plan.encoder == "streamed":
            encoder = SLOTS * self._networks(encoder).encoder.layer
        weights = usage.Weights(transformers, encoder, vae)
        available = usage.room(self.device) + transformers + vae + loaded
        networks, size, kind = self._networks(encoder), (width, height), self.device.type
        apart = usage.predict(weights, budget.activations(networks, size, device=kind), available)
        usage.check(apart.peak_bytes, available, f"a picture of {width}x{height}", self.device)
        if self._overlaps(networks, size):
            both = usage.predict(weights, budget.activations(networks, size, device=kind, overlap=True), available)
            if both.peak_bytes <= available and both.keep_text_encoder == apart.keep_text_encoder:
                return replace(both, overlap=True)
        return apart

    def _overlaps(self, networks: budget.Networks, size: tuple[int, int]) -> bool:
        if self.side is None or self.enter or len(self.branches) < len(BRANCHES):
            return False
        if self.overlap is not None:
            return self.overlap
        found = table.find_overlap(self.device, inventory.pair(networks, size))
        return found is not None and found.faster

    def _encoder_bytes(self) -> int:
        return usage.weight_bytes(self._open_text_encoder()[0].files, LANGUAGE_MODEL, self.dtype)

    def _networks(self, encoder: int) -> budget.Networks:
        dimensions = self._open_text_encoder()[1]
        return budget.Networks(
            self.config,
            self.schemes,
            inventory.encoder(dimensions, encoder, self.dtype),
            usage.module_bytes(self.vae),
            inventory.vae_channels(self.vae.config),
            self.dtype,
            self.compute,
            self.attention,
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
    attention: str = ATTENTIONS[0],
    plan: Plan | None = None,
    size: tuple[int, int] | None = None,
    branches: Collection[Branch] = BRANCHES,
) -> Model:
    """Loads `pocket`, a source folder or Hub id (variant fp8, bf16, ...), an artifact folder, GGUF files, or what is open already.

    Args:
        location, unconditional, source, revision: as `open_weights` takes them, where the location is not open already.
        text_encoder: an artifact folder or a GGUF file to take the text encoder from, in place of the checkpoint.
        compute: one of COMPUTES, what Linears in ggml's blocks compute in; other builds have no choice.
        attention: one of ATTENTIONS. As of `compute`, "int8" changes pictures, and so the model's name and identity.
        plan: what is streamed; None is, on CUDA, the first of `budget.PLANS` with room for a picture of `size`.
        size: width and height of the largest picture to come; None is the model's own.
        branches: the transformers that pictures will need, of those that are there; the others are not loaded.

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
        variant, digests, blocks = opened.variant, list(opened.record().files.values()), False
        all_readers: Mapping[Branch, WeightReader] = {
            branch: SourceWeights(opened.branch(branch)) for branch in opened.branches
        }
    else:
        build = opened.weights if isinstance(opened, Build) else opened
        config = build.transformer_config
        made_from, folder = origin(opened)
        variant, digests, blocks = build.variant, list(build.digests), build.has_blocks
        all_readers = {branch: build.branch(branch) for branch in build.branches}
    readers = {branch: reader for branch, reader in all_readers.items() if branch in branches}
    encoder = None if text_encoder is None else open_text_encoder_build(Path(text_encoder), config, folder)
    if encoder is not None:
        variant = f"{variant}, text encoder {encoder.variant}"
        digests += encoder.digests
    compute = compute if blocks or (encoder is not None and encoder.has_blocks) else COMPUTES[0]
    variant = variant_name(variant, attention, compute)
    size = size or opened.traits.default_size
    usage.keep_off_main_memory(place)
    plan = plan or find_plan(AUTO, opened, size, place, dtype, compute, attention, branches=branches)
    streamed = () if plan is None else plan.streamed
    files = dict.fromkeys(path for branch in readers if branch not in streamed for path in readers[branch].files)
    weights = usage.weight_bytes(files)
    usage.check(weights, usage.room(place), f"variant {variant}", place)
    homes = {branch: torch.device("cpu") if branch in streamed else place for branch in readers}
    stored = inventory.schemes(opened.weights if isinstance(opened, Build) else opened)
    model = Model(
        variant=variant,
        artifact_sha256=identity(digests, attention, compute),
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
        schemes={branch: stored[branch] for branch in readers},
        text_encoder_build=encoder,
        compute=compute,
        attention=attention,
        plan=plan,
    )
    if streamed:
        model.stream(streamed, place)
    schemes = {scheme for linears in model.schemes.values() for scheme in linears.values()}
    products = model.products(size)
    try_programs(config, place, dtype, products, schemes, int8_attention=attention == "int8")
    if model.side is not None and not streamed and len(readers) == len(BRANCHES):
        pair = inventory.pair(describe(opened, dtype, compute, attention), size)
        _log.info("both branches: %s", table.branches_note(place, pair))
    return model
