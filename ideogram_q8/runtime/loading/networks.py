"""The networks, built from weights by official names: diffusers' and transformers' own modules with packed Linears put in.

Modules are built without storage and filled a tensor at a time, so nothing is held twice. The text encoder's vision tower, which
Ideogram 4 never runs, is not built at all. Where weights come from is known to `model`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLTextModel

from ideogram_q8.builds.packed import GgmlWeight, Packed
from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, SourceError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.text import read_json
from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.model.architecture import (
    LARGEST_DIMENSION,
    MOST_LAYERS,
    TEXT_PROJECTION,
    Linear,
    TransformerConfig,
    diffusers_names,
    linears,
    split_block,
)
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig
from ideogram_q8.numerics import ggml
from ideogram_q8.runtime.layers.fusing import adjoin_block
from ideogram_q8.runtime.layers.packed import GgmlLinear, for_int8_compute, from_packed


class WeightReader(Protocol):
    """One network by official names: plain tensors, and the packed weight of a Linear where it has one."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, name: str) -> torch.Tensor: ...

    def packed(self, name: str) -> Packed | None: ...


class NotLoaded(nn.Module):
    """Stands where a layer is that the model never runs."""

    def forward(self, *_: object) -> torch.Tensor:
        """Raises AssertionError."""
        raise AssertionError("this layer was left out, because the unconditional branch reads no caption")


def build_transformer(
    reader: WeightReader,
    config: TransformerConfig,
    device: torch.device,
    dtype: torch.dtype,
    compute: str = COMPUTES[0],
    text_projection: bool = True,
) -> Ideogram4Transformer2DModel:
    """diffusers' transformer with the weights of `reader`; a fused qkv becomes three layers that share its memory.

    Args:
        compute: one of COMPUTES, what Linears in ggml's blocks compute in.
        text_projection: whether TEXT_PROJECTION is loaded, which the unconditional branch does not need.

    Raises:
        ArtifactError: `reader` lacks a tensor.
    """
    with torch.device("meta"):
        transformer = Ideogram4Transformer2DModel.from_config(config.to_json())
    rotary = transformer.rotary_emb  # its frequencies are computed, not stored: build it again, on a real device
    transformer.rotary_emb = type(rotary)(config.attention_head_dim, config.rope_theta, config.mrope_section)
    absent = () if text_projection else TEXT_PROJECTION
    for name in absent:
        transformer.set_submodule(name, NotLoaded(), strict=True)
    by_name, packed_names = {linear.name: linear for linear in linears(config)}, set()
    for prefix, names in _by_block((*by_name, *reader.names)).items():
        for name in names:
            if name.partition(".")[0] in absent or name in packed_names:
                continue
            if name not in by_name:
                _install_tensor(transformer, diffusers_names(name), reader.read(name).to(device, dtype))
            elif _install_packed(transformer, by_name[name], reader, device, dtype, compute):
                packed_names.add(f"{name}.weight")
        block = transformer.get_submodule(prefix.removesuffix("."))
        mapped = device.type == "cpu" and any(isinstance(module, GgmlLinear) for module in block.modules())
        if prefix and not mapped:  # what a GGUF file maps would be copied, and held twice
            adjoin_block(block)  # before the next one comes, which takes the memory that the parts of this one leave
    _require_filled(transformer, ArtifactError, "the transformer")
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the parts of the last block took
    return transformer.to(device).eval().requires_grad_(False)


def _by_block(names: Iterable[str]) -> dict[str, list[str]]:
    """Official names by the prefix of their block, in the order in which they come; under the empty one what lies outside."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(split_block(name)[0], []).append(name)
    return found


def _install_packed(
    transformer: nn.Module, linear: Linear, reader: WeightReader, device: torch.device, dtype: torch.dtype, compute: str
) -> bool:
    """Puts the packed Linear that `reader` has in the place of diffusers' own, or of its three; says whether it has one."""
    packed = reader.packed(linear.name)
    if packed is None:
        return False
    if compute == "int8":
        packed = for_int8_compute(packed, device)
    bias = reader.read(f"{linear.name}.bias").to(device, dtype) if linear.bias else None
    parts = diffusers_names(f"{linear.name}.weight")
    rows = linear.out_features // len(parts)
    for i, part in enumerate(parts):
        layer = from_packed(packed.row_slice(i * rows, (i + 1) * rows), bias)
        transformer.set_submodule(part.removesuffix(".weight"), layer.to(device), strict=True)
    return True


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


class GgmlEmbedding(nn.Module):
    """`weight` uint8 [rows, bytes of a row] in blocks of a ggml type: only rows that are asked for are decoded, to `dtype`."""

    weight: torch.Tensor

    def __init__(self, packed: GgmlWeight, dtype: torch.dtype) -> None:
        super().__init__()
        self.block, self.dtype = ggml.BLOCKS[packed.block], dtype
        self.register_buffer("weight", packed.data)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """int64 [...] -> [..., width]."""
        return ggml.decode(self.weight[indices], self.block).to(self.dtype)


def build_text_encoder(
    reader: WeightReader, config: TextEncoderConfig, device: torch.device, dtype: torch.dtype, compute: str = COMPUTES[0]
) -> Qwen3VLTextModel:
    """transformers' language model of Qwen3-VL with the weights of `reader`, without its vision tower.

    Args:
        compute: one of COMPUTES, what Linears in ggml's blocks compute in.

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
        elif isinstance(packed, GgmlWeight) and isinstance(model.get_submodule(own.removesuffix(".weight")), nn.Embedding):
            model.set_submodule(own.removesuffix(".weight"), GgmlEmbedding(packed, dtype).to(device), strict=True)
        else:
            packed = for_int8_compute(packed, device) if compute == "int8" else packed
            model.set_submodule(own.removesuffix(".weight"), from_packed(packed).to(device), strict=True)
    _require_filled(model, ArtifactError, "the text encoder")
    return model.to(device).eval().requires_grad_(False)


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
        file_kinds.of_file(path)  # a FIFO would wait
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


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder. Raises SourceError: it is missing or damaged."""
    if not (folder / "tokenizer.json").is_file():
        raise SourceError(f"{folder / 'tokenizer.json'}: missing; download the folder again")
    for path in folder.iterdir():  # which of them are opened is transformers' to choose
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise SourceError(f"{path} is no regular file; download the folder again")
    with _as_source_error(str(folder / "tokenizer.json")):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
