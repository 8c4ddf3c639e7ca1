"""What lies in an artifact's folder: file names, the stored tensors of each source tensor, and their packing.

    int8          ideogram4-int8.safetensors, ideogram4-unconditional-int8.safetensors; w8a8 and w8a16 Linears as ComfyUI's
                  int8_tensorwise (X.weight I8 [N, K], X.weight_scale F32 [N, 1], X.comfy_quant U8 with its JSON), else BF16
    text encoder  ideogram4-text-encoder-int8.safetensors, the same layout; int8 only
    q8_0, q4_k    ideogram4-Q8_0.gguf, ideogram4-unconditional-Q8_0.gguf, ...; blocks, kept Linears BF16, everything else F32

Which Linear gets which scheme is the recipe's affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from ideogram_q8.architecture import PartName
from ideogram_q8.artifact import gguf_file, safetensors_file
from ideogram_q8.artifact.placement import Placement
from ideogram_q8.components import Dimensions, component
from ideogram_q8.manifest import TensorRecord
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.numerics.rotation import rotate
from ideogram_q8.recipe import INT8_SCHEMES, LayerPlan, Recipe

BRANCH_KEY = "ideogram_q8.branch"
"""The metadata key of a weight file that says which branch it holds, or that it holds the text encoder."""

_STEMS: Mapping[PartName, str] = {
    "conditional": "ideogram4",
    "unconditional": "ideogram4-unconditional",
    "text_encoder": "ideogram4-text-encoder",
}


class Container(Protocol):
    """A file format."""

    def stored_bytes(self, record: TensorRecord) -> int: ...

    def place(self, records: Sequence[TensorRecord], metadata: Mapping[str, str]) -> Placement: ...


def container(scheme: str) -> Container:
    """The module that writes files of a scheme."""
    return gguf_file if scheme in ggml.BLOCKS else safetensors_file


def open_file(scheme: str, path: Path) -> safetensors_file.SafetensorsFile | gguf_file.GgufFile:
    """Raises ArtifactError: not a whole file of the scheme's format."""
    return gguf_file.GgufFile(path) if scheme in ggml.BLOCKS else safetensors_file.SafetensorsFile(path)


def file_name(scheme: str, part: PartName) -> str:
    """`ideogram4-int8.safetensors`, `ideogram4-unconditional-Q4_K.gguf`, ..."""
    return f"{_STEMS[part]}-{scheme.upper()}.gguf" if scheme in ggml.BLOCKS else f"{_STEMS[part]}-{scheme}.safetensors"


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
    return "f32" if recipe.scheme in ggml.BLOCKS else "bf16"


def stored_tensors(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, tuple[TensorRecord, ...]]:
    """The tensors that a part's weight file has for each tensor of the source."""
    plans = {f"{layer.linear}.weight": layer for layer in recipe.parts[part].layers}
    plain = plain_scheme(recipe)
    return {name: _stored(name, shape, plans.get(name), plain) for name, shape in component(config).shapes.items()}


def _stored(name: str, shape: tuple[int, ...], plan: LayerPlan | None, plain: str) -> tuple[TensorRecord, ...]:
    scheme = plan.scheme if plan else plain
    if plan is None or scheme not in INT8_SCHEMES:
        return (TensorRecord(name, shape, scheme.upper(), scheme),)
    return (
        TensorRecord(name, shape, "I8", scheme),
        TensorRecord(f"{name}_scale", (shape[0], 1), "F32", scheme),
        TensorRecord(f"{plan.linear}.comfy_quant", (len(comfy_quant(plan)),), "U8", scheme),
    )


def pack(tensor: torch.Tensor, plan: LayerPlan | None, plain: str) -> tuple[torch.Tensor, ...]:
    """A bfloat16 source tensor as the tensors that `stored_tensors` plans for it; `plain` is the scheme of what is no Linear."""
    scheme = plan.scheme if plan else plain
    if plan is not None and scheme in INT8_SCHEMES:
        values = rotate(tensor.float(), plan.rotation) if plan.rotation else tensor
        marker = torch.frombuffer(bytearray(comfy_quant(plan)), dtype=torch.uint8)
        return (*int8.quantize_per_channel(values), marker)
    if scheme in ggml.BLOCKS:
        return (ggml.encode(tensor.float(), ggml.BLOCKS[scheme]),)
    return (tensor.float() if scheme == "f32" else tensor,)
