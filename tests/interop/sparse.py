"""Files of Ideogram 4's full size that take no disk: their headers, and holes in the place of data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from ideogram_q8.builds import gguf_text_encoder, layout
from ideogram_q8.formats import safetensors_file
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.model.architecture import IDEOGRAM4, PartName
from ideogram_q8.model.components import Dimensions
from ideogram_q8.recipes import Recipe
from tests.text_encoders import QWEN3_VL_8B

CONFIGS: Mapping[PartName, Dimensions] = {
    "conditional": IDEOGRAM4,
    "unconditional": IDEOGRAM4,
    "text_encoder": QWEN3_VL_8B,
}


def records(recipe: Recipe, part: PartName) -> list[TensorRecord]:
    """What a part's files hold."""
    return [record for found in layout.stored_tensors(CONFIGS[part], recipe, part).values() for record in found]


def write_part(folder: Path, recipe: Recipe, part: PartName, packaging: layout.Packaging | None = None) -> Path:
    """The part's file, or its shards, of which the first is returned."""
    is_encoder = part == "text_encoder"
    values = gguf_text_encoder.key_values(QWEN3_VL_8B, folder / "no tokenizer") if is_encoder else ()
    metadata = {layout.BRANCH_KEY: part}
    plan = layout.plan_files(recipe, part, records(recipe, part), metadata, packaging or layout.Packaging(), values)
    for file in plan:
        _write(folder / file.name, file.placement.header, file.placement.size)
    return folder / plan[0].name


def write_vae(folder: Path) -> Path:
    """That of FLUX.2 by diffusers' names."""
    from diffusers import AutoencoderKLFlux2

    with torch.device("meta"):
        tensors = AutoencoderKLFlux2().state_dict()
    found = [
        TensorRecord(name, tuple(tensor.shape), "F32" if tensor.is_floating_point() else "I64", "f32")
        for name, tensor in tensors.items()
    ]
    placement = safetensors_file.place(found, {})
    return _write(folder / "vae.safetensors", placement.header, placement.size)


def _write(path: Path, header: bytes, size: int) -> Path:
    path.write_bytes(header)
    os.truncate(path, size)
    return path
