"""Tiny random checkpoints in the official FP8 layout, for tests that need files but no trained weights.

Written with torch and safetensors alone, so that the package's own readers and writers are checked against something else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from ideogram_q8.architecture import BRANCHES, COMPONENT_FOLDERS, Traits, TransformerConfig, linears, tensor_shapes

TINY = TransformerConfig(
    in_channels=16,
    num_layers=2,
    attention_head_dim=32,
    num_attention_heads=8,
    intermediate_size=256,
    adaln_dim=64,
    llm_features_dim=104,
    rope_theta=100,
    mrope_section=(6, 5, 5),
    norm_eps=1e-5,
)
"""Hidden and feed-forward widths of one Q4_K block; the modulation's width fits Q8_0 blocks only."""
TINY_TRAITS = Traits("Tiny", 64, 128, (64, 64), (3.0, 2.0))


def write_source(folder: Path, config: TransformerConfig = TINY, seed: int = 0, traits: Traits | None = TINY_TRAITS) -> Path:
    """Writes model_index.json, traits.json and both transformers with random weights into `folder`; returns it.

    The same files for the same arguments. `traits=None` writes no traits.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "model_index.json", {"_class_name": "Ideogram4Pipeline"})
    if traits is not None:
        _write_json(folder / "traits.json", traits_value(traits))
    for index, branch in enumerate(BRANCHES):
        part = folder / COMPONENT_FOLDERS[branch]
        part.mkdir(exist_ok=True)
        _write_json(part / "config.json", config.to_json())
        tensors = fp8_tensors(config, seed * len(BRANCHES) + index)
        save_file(tensors, part / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def traits_value(traits: Traits) -> dict[str, object]:
    """The content of traits.json."""
    return {
        "name": traits.name,
        "min_side": traits.min_side,
        "max_side": traits.max_side,
        "default_size": list(traits.default_size),
        "guidance": list(traits.guidance),
    }


def fp8_tensors(config: TransformerConfig, seed: int) -> dict[str, torch.Tensor]:
    """All tensors of one branch as the official file stores them: F8_E4M3 `weight`, F32 `weight_scale`, the rest BF16."""
    generator = torch.Generator().manual_seed(seed)
    quantized = {f"{linear.name}.weight" for linear in linears(config)}
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in tensor_shapes(config).items():
        values = torch.randn(shape, generator=generator)
        if name in quantized:
            values /= math.sqrt(shape[1])
            scale = values.abs().amax(1).clamp_min(1e-12) / 448
            tensors[name] = (values / scale[:, None]).to(torch.float8_e4m3fn)
            tensors[name.removesuffix("weight") + "weight_scale"] = scale
        else:
            centre = 1.0 if "norm" in name else 0.0
            tensors[name] = (centre + 0.1 * values).to(torch.bfloat16)
    return tensors


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
