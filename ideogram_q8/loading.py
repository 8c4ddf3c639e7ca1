"""From a location to a model on a device: diffusers' and transformers' own modules with packed Linears put in.

Modules are built without storage and filled a tensor at a time, so nothing is held twice. The text encoder is loaded when first
used and can be freed; its vision tower, which Ideogram 4 never runs, is not loaded at all. It comes from the checkpoint, or from
an artifact of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLTextModel

from ideogram_q8 import memory
from ideogram_q8.architecture import (
    BRANCHES,
    LARGEST_DIMENSION,
    MOST_LAYERS,
    TEXT_TAPS,
    Branch,
    Traits,
    TransformerConfig,
    diffusers_names,
    linears,
)
from ideogram_q8.artifact import Artifact, open_artifact
from ideogram_q8.artifact.packed import Fp8Weight, Packed
from ideogram_q8.checkpoint import POCKET, BranchReader, Source, TextEncoderSource, open_source, open_text_encoder
from ideogram_q8.checkpoint.text import read_json
from ideogram_q8.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.decoding import LinearDecoder
from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, SourceError
from ideogram_q8.layers import from_packed
from ideogram_q8.manifest import FILE_NAME


class WeightReader(Protocol):
    """One network by official names: plain tensors, and the packed weight of a Linear where it has one."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, name: str) -> torch.Tensor: ...

    def packed(self, name: str) -> Packed | None: ...


@dataclass(frozen=True)
class _Fp8Branch:
    """A source's branch or text encoder, its e4m3 Linears handed out as they are stored."""

    reader: BranchReader

    @property
    def files(self) -> tuple[Path, ...]:
        return self.reader.files

    @property
    def names(self) -> tuple[str, ...]:
        return self.reader.names

    def read(self, name: str) -> torch.Tensor:
        return self.reader.read(name)

    def packed(self, name: str) -> Packed | None:
        stored = self.reader.read_fp8(f"{name}.weight")
        return None if stored is None else Fp8Weight(*stored)


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
        return _Fp8Branch(source.branch("text_encoder")), source.config

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
        readers = {branch: _Fp8Branch(opened.branch(branch)) for branch in BRANCHES}
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
        tokenizer=_load_tokenizer(folder / "tokenizer"),
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


def build_transformer(
    reader: WeightReader, config: TransformerConfig, device: torch.device, dtype: torch.dtype
) -> Ideogram4Transformer2DModel:
    """diffusers' transformer with the weights of `reader`; a fused qkv becomes three layers that share its memory.

    Raises:
        ArtifactError: `reader` lacks a tensor.
    """
    with torch.device("meta"):
        transformer = Ideogram4Transformer2DModel.from_config(config.to_json())
    rotary = transformer.rotary_emb  # its frequencies are computed, not stored: build it again, on a real device
    transformer.rotary_emb = type(rotary)(config.attention_head_dim, config.rope_theta, config.mrope_section)
    packed_names = set()
    for linear in linears(config):
        packed = reader.packed(linear.name)
        if packed is None:
            continue
        packed_names.add(f"{linear.name}.weight")
        bias = reader.read(f"{linear.name}.bias").to(device, dtype) if linear.bias else None
        parts = diffusers_names(f"{linear.name}.weight")
        rows = linear.out_features // len(parts)
        for i, part in enumerate(parts):
            layer = from_packed(packed.row_slice(i * rows, (i + 1) * rows), bias)
            transformer.set_submodule(part.removesuffix(".weight"), layer.to(device), strict=True)
    for name in reader.names:
        if name not in packed_names:
            _install_tensor(transformer, diffusers_names(name), reader.read(name).to(device, dtype))
    _require_filled(transformer, ArtifactError, "the transformer")
    return transformer.to(device).eval().requires_grad_(False)


def _install_tensor(module: nn.Module, names: Iterable[str], tensor: torch.Tensor) -> None:
    """Sets the parameters `names` to equal shares of the rows of `tensor`; biases that a packed layer holds stay."""
    parts = tuple(names)
    for name, rows in zip(parts, tensor.chunk(len(parts)), strict=True):
        owner, _, leaf = name.rpartition(".")
        child = module.get_submodule(owner)
        if leaf in child._parameters:
            child.register_parameter(leaf, nn.Parameter(rows, requires_grad=False))


def _require_filled(module: nn.Module, error: type[IdeogramQ8Error], what: str) -> None:
    tensors = (*module.named_parameters(), *module.named_buffers())
    missing = [name for name, tensor in tensors if tensor.is_meta]
    if missing:
        raise error(f"{what} lacks {len(missing)} tensors, the first is {missing[0]}; download or build the folder again")


# ---- the parts that come from the source as they are ----


@contextlib.contextmanager
def _as_source_error(what: str) -> Iterator[None]:
    """Around what libraries make of a file that may be damaged: they refuse it with exceptions of any kind."""
    try:
        yield
    except IdeogramQ8Error:
        raise
    except Exception as error:  # tokenizers raises no narrower one
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SourceError(f"{what} cannot be used ({reason}); download the folder again") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    values = read_json(path)
    if not isinstance(values, dict):
        raise SourceError(f"{path}: holds {type(values).__name__}, expected an object")
    return values


def _check_vae(values: Mapping[str, object], where: Path) -> None:
    """Raises SourceError: a number that makes a network of absurd size, before diffusers builds it."""
    limits = {"layers_per_block": MOST_LAYERS}
    for name, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        limit = limits.get(name, LARGEST_DIMENSION)
        if len(numbers) > MOST_LAYERS or any(type(number) is int and number > limit for number in numbers):
            raise SourceError(f"{where}: {name} is {str(value)[:60]}, expected numbers of at most {limit}; download it again")


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise SourceError(f"{path}: not a complete safetensors file ({error}); download it again") from error


def load_vae(folder: Path, device: torch.device, dtype: torch.dtype) -> AutoencoderKLFlux2:
    """The VAE of a folder with config.json and one weight file.

    Raises:
        SourceError: a file is missing or does not fit its config.
    """
    values = _read_config(folder)
    _check_vae(values, folder / "config.json")
    with torch.device("meta"), _as_source_error(str(folder / "config.json")):
        vae = AutoencoderKLFlux2.from_config(values)
    path = folder / "diffusion_pytorch_model.safetensors"
    with _open_safetensors(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
    state = {name: value.to(device, dtype if value.is_floating_point() else value.dtype) for name, value in state.items()}
    try:
        vae.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"{path} does not fit its config.json: {reason}") from error
    return vae.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer.json").is_file():
        raise SourceError(f"{folder / 'tokenizer.json'}: missing; download the folder again")
    with _as_source_error(str(folder / "tokenizer.json")):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


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
    place, reader = torch.device(device), _Fp8Branch(source.branch("text_encoder"))
    weights = memory.weight_bytes(reader.files, LANGUAGE_MODEL)
    memory.check(weights, memory.available_bytes(place), "the text encoder", place)
    tokenizer = _load_tokenizer(source.folder / "tokenizer")
    return TextEncoder(build_text_encoder(reader, source.config, place, dtype), tokenizer, source.config)


def build_text_encoder(
    reader: WeightReader, config: TextEncoderConfig, device: torch.device, dtype: torch.dtype
) -> Qwen3VLTextModel:
    """transformers' language model of Qwen3-VL with the weights of `reader`, without its vision tower.

    Raises:
        SourceError: transformers takes no such config.
        ArtifactError: `reader` lacks a tensor.
    """
    with _as_source_error("text_encoder/config.json"):
        dimensions = Qwen3VLConfig.from_dict(config.to_json()).text_config
        with torch.device("meta"):
            model = Qwen3VLTextModel(dimensions)
        model.rotary_emb = type(model.rotary_emb)(dimensions)  # computed, not stored
    for name in reader.names:
        if not name.startswith(LANGUAGE_MODEL):
            continue
        own = name.removeprefix(LANGUAGE_MODEL)
        packed = reader.packed(name.removesuffix(".weight"))
        if packed is None:
            _install_tensor(model, [own], reader.read(name).to(device, dtype))
        else:
            model.set_submodule(own.removesuffix(".weight"), from_packed(packed).to(device), strict=True)
    _require_filled(model, ArtifactError, "the text encoder")
    return model.to(device).eval().requires_grad_(False)
