"""Tiny random checkpoints for tests that need files but no trained weights: in the official FP8 layout, and converted to others.

Written with torch and safetensors alone, so that the package's own readers and writers are checked against something else.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from ideogram_q8.model.architecture import (
    BRANCHES,
    COMPONENT_FOLDERS,
    Branch,
    Traits,
    TransformerConfig,
    linears,
    tensor_shapes,
)

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


WIDE_HEAD = dataclasses.replace(
    TINY, attention_head_dim=256, num_attention_heads=1, rope_theta=5_000_000, mrope_section=(24, 20, 20)
)
"""Heads and positions as Ideogram 4 has them, so that a single file tells all dimensions."""

Tensors = dict[str, torch.Tensor]


def write_source(
    folder: Path,
    config: TransformerConfig = TINY,
    seed: int = 0,
    traits: Traits | None = TINY_TRAITS,
    convert: Callable[[Tensors], Tensors] = lambda tensors: tensors,
    branches: Sequence[Branch] = BRANCHES,
) -> Path:
    """Writes model_index.json, traits.json and the transformers of `branches` with random weights into `folder`; returns it.

    The same files for the same arguments. `traits=None` writes no traits.json; `convert` changes the layout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "model_index.json", {"_class_name": "Ideogram4Pipeline"})
    if traits is not None:
        _write_json(folder / "traits.json", traits_value(traits))
    for index, branch in enumerate(branches):
        part = folder / COMPONENT_FOLDERS[branch]
        part.mkdir(exist_ok=True)
        _write_json(part / "config.json", config.to_json())
        tensors = convert(fp8_tensors(config, seed * len(BRANCHES) + index))
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


def float_tensors(tensors: Tensors, dtype: torch.dtype = torch.float32) -> Tensors:
    """FP8 tensors multiplied out, without scales, all in one type."""
    found = {name: value for name, value in tensors.items() if not name.endswith("_scale")}
    for name in found:
        if f"{name}_scale" in tensors:
            found[name] = found[name].float() * tensors[f"{name}_scale"][:, None]
    return {name: value.to(dtype) for name, value in found.items()}


def split_tensors(tensors: Tensors) -> Tensors:
    """diffusers' names: qkv in three, o as `to_out.0`. For weights and their scales alike; not for NF4."""
    found: Tensors = {}
    for name, value in tensors.items():
        if ".attention.qkv." in name:
            parts = value.chunk(3) if value.dim() else (value,) * 3
            found |= {name.replace("qkv", f"to_{kind}"): part.contiguous() for kind, part in zip("qkv", parts, strict=True)}
        else:
            found[name.replace(".attention.o.", ".attention.to_out.0.")] = value
    return found


NF4_LEVELS = torch.tensor(
    (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
        *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    )
)


def nf4_tensors(tensors: Tensors) -> Tensors:
    """Matrices of Linears as bitsandbytes saves them in blocks of 64 without double quantization; the rest bfloat16."""
    found: Tensors = {}
    for name, value in tensors.items():
        if value.dim() != 2 or name.startswith("embed_"):
            found[name] = value.to(torch.bfloat16)
            continue
        blocks = torch.nn.functional.pad(value.float().flatten(), (0, -value.numel() % 64)).view(-1, 64)
        absmax = blocks.abs().amax(1)
        codes = (blocks / absmax[:, None])[..., None].sub(NF4_LEVELS).abs().argmin(-1).flatten()[: value.numel()]
        state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(value.shape)}
        found[name] = (codes[0::2] << 4 | codes[1::2]).to(torch.uint8)[:, None]
        found[f"{name}.absmax"] = absmax
        found[f"{name}.quant_map"] = NF4_LEVELS.clone()
        found[f"{name}.quant_state.bitsandbytes__nf4"] = text_tensor(json.dumps(state))
    return found


def text_tensor(text: str) -> torch.Tensor:
    """UTF-8 bytes, as checkpoints keep their small JSON texts."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


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
