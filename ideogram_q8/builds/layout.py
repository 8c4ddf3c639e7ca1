"""What lies in an artifact's folder: file names, the stored tensors of each source tensor, and their packing.

    int8          ideogram4-int8.safetensors, ideogram4-unconditional-int8.safetensors; w8a8 and w8a16 Linears as ComfyUI's
                  int8_tensorwise (X.weight I8 [N, K], X.weight_scale F32 [N, 1], X.comfy_quant U8 with its JSON), else BF16
    text encoder  ideogram4-text-encoder-int8.safetensors, the same layout; ideogram4-text-encoder-Q8_0.gguf as llama.cpp has it
    GGUF          ideogram4-Q4_K_M.gguf, ideogram4-unconditional-Q4_K_M.gguf, ...; Linears as blocks or floats, everything else F32;
                  on request as shards, ideogram4-Q4_K_M-00001-of-00003.gguf

Which Linear gets which scheme is the recipe's affair.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from ideogram_q8.builds import gguf_text_encoder
from ideogram_q8.formats import gguf_reader, gguf_writer, safetensors_file
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.formats.placement import TensorPlacement
from ideogram_q8.model.architecture import PartName
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, component
from ideogram_q8.model.schemes import GGUF_SCHEMES, INT8_SCHEMES, PRESETS, gguf_block
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.numerics.dtypes import torch_dtype
from ideogram_q8.recipes import LayerPlan, Recipe
from ideogram_q8.sources import pairs

BRANCH_KEY = pairs.BRANCH_KEY
"""The metadata key of a weight file that says which branch it holds, or that it holds the text encoder."""

_STEMS: Mapping[PartName, str] = {
    "conditional": "ideogram4",
    "unconditional": "ideogram4-unconditional",
    "text_encoder": "ideogram4-text-encoder",
}


class Container(Protocol):
    """A file format."""

    def stored_bytes(self, record: TensorRecord) -> int: ...


def container(scheme: str) -> Container:
    """The module that writes files of a scheme."""
    return gguf_writer if scheme in GGUF_SCHEMES else safetensors_file


def open_file(scheme: str, path: Path) -> safetensors_file.SafetensorsFile | gguf_reader.GgufFile:
    """Raises ArtifactError: not a whole file of the scheme's format."""
    return gguf_reader.GgufFile(path) if scheme in GGUF_SCHEMES else safetensors_file.SafetensorsFile(path)


def file_name(scheme: str, part: PartName) -> str:
    """`ideogram4-int8.safetensors`, `ideogram4-unconditional-Q4_K_M.gguf`, ..."""
    if scheme in GGUF_SCHEMES:
        return f"{_STEMS[part]}-{scheme.upper()}.gguf"
    return f"{_STEMS[part]}-{scheme}.safetensors"


def is_shard(name: str) -> bool:
    """Whether a file name is that of a shard of any GGUF file that `file_name` gives."""
    match = re.fullmatch(r"(.+)-[0-9]{5}-of-[0-9]{5}(\.gguf)", name)
    return match is not None and match[1] + match[2] in {file_name(scheme, part) for scheme in GGUF_SCHEMES for part in _STEMS}


@dataclass(frozen=True)
class Packaging:
    """What is up to whoever asks for GGUF files: `general.architecture`, None for the usual one, and the bytes of the largest file."""

    architecture: str | None = None
    split_bytes: int | None = None


@dataclass(frozen=True)
class PlannedFile:
    """A weight file before it is written."""

    name: str
    records: tuple[TensorRecord, ...]
    placement: TensorPlacement


def plan_files(
    recipe: Recipe,
    part: PartName,
    records: Sequence[TensorRecord],
    metadata: Mapping[str, str],
    packaging: Packaging,
    values: tuple[gguf_writer.KeyValue, ...] = (),
) -> tuple[PlannedFile, ...]:
    """The file of a part, or its shards in order, with the tensors `records` in all, the texts `metadata` and, in GGUF, other `values`.

    Raises:
        RequestError: a split makes too many files.
    """
    name = file_name(recipe.scheme, part)
    if recipe.scheme not in GGUF_SCHEMES:
        return (PlannedFile(name, tuple(records), safetensors_file.place(records, metadata)),)
    usual = gguf_text_encoder.ARCHITECTURE if part == "text_encoder" else gguf_writer.ARCHITECTURE
    header = gguf_writer.GgufMetadata(packaging.architecture or usual, _file_type(recipe.scheme, records), metadata, values)
    whole = PlannedFile(name, tuple(records), gguf_writer.place(records, header))
    if packaging.split_bytes is None or whole.placement.size <= packaging.split_bytes:
        return (whole,)
    shards = gguf_writer.split(records, header, packaging.split_bytes)
    stem = name.removesuffix(".gguf")
    return tuple(
        PlannedFile(
            f"{stem}-{number + 1:05d}-of-{len(shards):05d}.gguf",
            own,
            gguf_writer.place(own, header, gguf_writer.GgufShard(number, len(shards), len(records))),
        )
        for number, own in enumerate(shards)
    )


def _file_type(scheme: str, records: Sequence[TensorRecord]) -> int:
    """llama.cpp's number of the preset, or else of the type that most bytes are of."""
    if scheme in PRESETS:
        return PRESETS[scheme].file_type
    sizes: Counter[str] = Counter()
    for record in records:
        sizes[record.scheme] += gguf_writer.stored_bytes(record)
    return gguf_block(sizes.most_common(1)[0][0]).file_type


def comfy_quant(plan: LayerPlan) -> bytes:
    """ComfyUI's marker of an int8 Linear: one float32 scale per output row, activations quantized per token unless weight-only."""
    marker: dict[str, object] = {"format": "int8_tensorwise"}
    if plan.rotation:
        marker |= {"convrot": True, "convrot_groupsize": plan.rotation}
    if plan.scheme == "w8a16":
        marker["full_precision_matrix_mult"] = True
    return json.dumps(marker, separators=(",", ":")).encode()


def plain_scheme(recipe: Recipe) -> str:
    """The scheme of the tensors that are no Linear's weight."""
    return "f32" if recipe.scheme in GGUF_SCHEMES else "bf16"


def stored_tensors(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, tuple[TensorRecord, ...]]:
    """The tensors that a part's weight file has for each tensor of the source; a text encoder's GGUF file has no vision tower."""
    plans = {f"{layer.linear}.weight": layer for layer in recipe.parts[part].layers}
    plain, shapes = plain_scheme(recipe), component(config).shapes
    if part == "text_encoder" and recipe.scheme in GGUF_SCHEMES:
        language = {name: shape for name, shape in shapes.items() if name.startswith(LANGUAGE_MODEL)}
        return {name: _llama(name, shape, plans.get(name), plans.values()) for name, shape in language.items()}
    return {name: _stored(name, shape, plans.get(name), plain) for name, shape in shapes.items()}


def _llama(name: str, shape: tuple[int, ...], plan: LayerPlan | None, plans: Iterable[LayerPlan]) -> tuple[TensorRecord, ...]:
    """A tensor of the language model under llama.cpp's name; its embedding Q8_0 if anything is in blocks, else bfloat16."""
    scheme = plan.scheme if plan else "f32"
    if name == gguf_text_encoder.EMBEDDING:
        blocks = any(plan.scheme in ggml.BLOCKS for plan in plans) and shape[-1] % ggml.BLOCKS["q8_0"].block_size == 0
        scheme = "q8_0" if blocks else "bf16"
    return (TensorRecord(gguf_text_encoder.stored_name(name), shape, scheme.upper(), scheme),)


def _stored(name: str, shape: tuple[int, ...], plan: LayerPlan | None, plain: str) -> tuple[TensorRecord, ...]:
    scheme = plan.scheme if plan else plain
    if plan is None or scheme not in INT8_SCHEMES:
        return (TensorRecord(name, shape, scheme.upper(), scheme),)
    return (
        TensorRecord(name, shape, "I8", scheme),
        TensorRecord(f"{name}_scale", (shape[0], 1), "F32", scheme),
        TensorRecord(f"{plan.linear}.comfy_quant", (len(comfy_quant(plan)),), "U8", scheme),
    )


def pack(
    tensor: torch.Tensor, plan: LayerPlan | None, plain: str, importance: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """A bfloat16 source tensor as the tensors that `stored_tensors` plans for it; `plain` is the scheme of what is no Linear.

    `importance` float32 [K] weighs ggml's search (`numerics.ggml.encode`).
    """
    scheme = plan.scheme if plan else plain
    if plan is not None and scheme in INT8_SCHEMES:
        marker = torch.frombuffer(bytearray(comfy_quant(plan)), dtype=torch.uint8)
        return (*int8.quantize_per_channel(tensor, plan.rotation), marker)
    if scheme in ggml.BLOCKS:
        return (ggml.encode(tensor.float(), ggml.BLOCKS[scheme], importance),)
    return (tensor.to(torch_dtype(scheme.upper())),)
