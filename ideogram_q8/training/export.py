"""Writes trained networks as a folder in the official FP8 layout (the tree of ideogram-ai/ideogram-4-fp8).

Every Linear is stored as e4m3 rows with one float32 scale each, `to_q`/`to_k`/`to_v` fused into `qkv`; everything else is
bfloat16. A stranger's loader cannot tell the result from the official folder but by its sizes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Transformer2DModel
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3VLModel

from ideogram_q8.model.architecture import COMPONENT_FOLDERS, Branch, Traits, TransformerConfig, diffusers_names, tensor_shapes
from ideogram_q8.numerics.fp8 import quantize_per_row
from ideogram_q8.training import model

WEIGHT_FILE = "diffusion_pytorch_model.safetensors"


def fused_state(config: TransformerConfig, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' state dict under the official names."""
    return {name: torch.cat([state[part] for part in diffusers_names(name)]) for name in tensor_shapes(config)}


def fp8_state(state: dict[str, torch.Tensor], linears: set[str]) -> dict[str, torch.Tensor]:
    """The weights of `linears` as e4m3 with a float32 `weight_scale` per row, all else as bfloat16."""
    stored: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if name.removesuffix(".weight") in linears and name.endswith(".weight"):
            stored[name], stored[f"{name}_scale"] = quantize_per_row(value.float())
        else:
            stored[name] = value.to(torch.bfloat16).contiguous()
    return stored


def linear_names(module: nn.Module) -> set[str]:
    """Names of all Linears inside a module."""
    return {name for name, child in module.named_modules() if isinstance(child, nn.Linear)}


def write_json(path: Path, value: object) -> None:
    """Indented JSON with sorted keys, so that two exports compare equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """One safetensors file and the index that maps every tensor to it, as the official repository has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it readable by its owner only
    size = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(sorted(state), path.name)}
    write_json(path.with_name(f"{path.name}.index.json"), index)


def write_transformer(folder: Path, branch: Branch, transformer: Ideogram4Transformer2DModel) -> None:
    """One branch: its weights in FP8 under the official names, and its config.json."""
    config = TransformerConfig.from_json({**dict(model.TRANSFORMER), "norm_eps": float(transformer.config.norm_eps)})
    fused = fused_state(config, transformer.state_dict())
    linears = {name.removesuffix(".weight") for name, value in fused.items() if value.ndim == 2} - {"embed_image_indicator"}
    write_weights(folder / COMPONENT_FOLDERS[branch] / WEIGHT_FILE, fp8_state(fused, linears))
    write_json(folder / COMPONENT_FOLDERS[branch] / "config.json", config.to_json())


def write_folder(
    folder: Path,
    branches: dict[Branch, Ideogram4Transformer2DModel],
    vae: AutoencoderKLFlux2,
    text_encoder: Qwen3VLModel,
    tokenizer: PreTrainedTokenizerFast,
    traits: Traits,
) -> None:
    """Writes the whole tree into `folder`, over what is there."""
    for branch, transformer in branches.items():
        write_transformer(folder, branch, transformer)
    vae.save_config(folder / "vae")
    buffers = {name: value.to(torch.bfloat16) for name, value in vae.state_dict().items() if value.is_floating_point()}
    counts = {name: value for name, value in vae.state_dict().items() if not value.is_floating_point()}
    write_weights(folder / "vae" / WEIGHT_FILE, buffers | counts)
    encoder = {name: value.detach() for name, value in text_encoder.state_dict().items()}
    write_weights(folder / "text_encoder" / "model.safetensors", fp8_state(encoder, linear_names(text_encoder)))
    config = text_encoder.config.to_dict() | {"architectures": ["Qwen3VLModel"], "ideogram_fp8_weight_only": True}
    write_json(folder / "text_encoder" / "config.json", config)
    tokenizer.save_pretrained(folder / "tokenizer")
    model.build_scheduler().save_config(folder / "scheduler")
    write_json(folder / "traits.json", asdict(traits))
    write_json(folder / "model_index.json", MODEL_INDEX)


MODEL_INDEX = {
    "_class_name": "Ideogram4Pipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3VLModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "Ideogram4Transformer2DModel"],
    "unconditional_transformer": ["diffusers", "Ideogram4Transformer2DModel"],
    "vae": ["diffusers", "AutoencoderKLFlux2"],
}
