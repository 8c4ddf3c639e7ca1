"""What lies in an artifact's folder: file names, the stored tensors of each source tensor, and their packing.

    int8          ideogram4-int8.safetensors, ideogram4-unconditional-int8.safetensors; w8a8 Linears as ComfyUI's int8_tensorwise
                  (X.weight I8 [N, K], X.weight_scale F32 [N, 1], X.comfy_quant U8 with its JSON), everything else BF16
    q8_0, q4_k    ideogram4-Q8_0.gguf, ideogram4-unconditional-Q8_0.gguf, ...; blocks, kept Linears BF16, everything else F32

Which Linear gets which scheme is the recipe's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from ideogram_q8.architecture import Branch, TransformerConfig, tensor_shapes
from ideogram_q8.artifact import gguf_file, safetensors_file
from ideogram_q8.manifest import TensorRecord
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.recipe import Recipe

COMFY_QUANT = b'{"format":"int8_tensorwise"}'
"""ComfyUI's marker of an int8 Linear: one float32 scale per output row, activations quantized per token."""
BRANCH_KEY = "ideogram_q8.branch"
"""The metadata key of a weight file that says which branch it holds."""

_STEMS: Mapping[Branch, str] = {"conditional": "ideogram4", "unconditional": "ideogram4-unconditional"}


class Container(Protocol):
    """A file format, written as a stream."""

    def stored_bytes(self, record: TensorRecord) -> int: ...

    def write(
        self,
        path: Path,
        records: Sequence[TensorRecord],
        tensors: Iterable[tuple[str, torch.Tensor]],
        metadata: Mapping[str, str],
    ) -> None: ...


def container(scheme: str) -> Container:
    """The module that writes files of a scheme."""
    return gguf_file if scheme in ggml.BLOCKS else safetensors_file


def open_file(scheme: str, path: Path) -> safetensors_file.SafetensorsFile | gguf_file.GgufFile:
    """Raises ArtifactError: not a whole file of the scheme's format."""
    return gguf_file.GgufFile(path) if scheme in ggml.BLOCKS else safetensors_file.SafetensorsFile(path)


def file_name(scheme: str, branch: Branch) -> str:
    """`ideogram4-int8.safetensors`, `ideogram4-unconditional-Q4_K.gguf`, ..."""
    return f"{_STEMS[branch]}-{scheme.upper()}.gguf" if scheme in ggml.BLOCKS else f"{_STEMS[branch]}-{scheme}.safetensors"


def stored_tensors(config: TransformerConfig, recipe: Recipe) -> dict[str, tuple[TensorRecord, ...]]:
    """The tensors that a weight file has for each tensor of the source."""
    schemes: dict[str, str] = {f"{layer.linear}.weight": layer.scheme for layer in recipe.layers}
    plain = "f32" if recipe.scheme in ggml.BLOCKS else "bf16"
    return {name: _stored(name, shape, schemes.get(name, plain)) for name, shape in tensor_shapes(config).items()}


def _stored(name: str, shape: tuple[int, ...], scheme: str) -> tuple[TensorRecord, ...]:
    if scheme != "w8a8":
        return (TensorRecord(name, shape, scheme.upper(), scheme),)
    linear = name.removesuffix(".weight")
    return (
        TensorRecord(name, shape, "I8", scheme),
        TensorRecord(f"{name}_scale", (shape[0], 1), "F32", scheme),
        TensorRecord(f"{linear}.comfy_quant", (len(COMFY_QUANT),), "U8", scheme),
    )


def pack(tensor: torch.Tensor, records: tuple[TensorRecord, ...]) -> tuple[torch.Tensor, ...]:
    """A bfloat16 source tensor as the tensors of `records`, one of the values of `stored_tensors`."""
    scheme = records[0].scheme
    if scheme == "w8a8":
        marker = torch.frombuffer(bytearray(COMFY_QUANT), dtype=torch.uint8)
        return (*int8.quantize_per_channel(tensor), marker)
    if scheme in ggml.BLOCKS:
        return (ggml.encode(tensor.float(), ggml.BLOCKS[scheme]),)
    return (tensor.float() if scheme == "f32" else tensor,)
