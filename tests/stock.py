"""diffusers' own `Ideogram4Pipeline` filled from an official FP8 folder, by none of this package's readers or layers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
)
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLModel


def plain_weights(path: Path) -> dict[str, torch.Tensor]:
    """float32 weights: e4m3 times scale, each and the product rounded to bfloat16."""
    stored = load_file(path)
    names = [name for name in stored if not name.endswith(".weight_scale")]
    return {name: plain_weight(stored[name], stored.get(f"{name}_scale")) for name in names}


def plain_weight(value: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if scale is not None:
        value = value.to(torch.bfloat16) * scale.to(torch.bfloat16).unsqueeze(1)
    return value.to(torch.float32) if value.is_floating_point() else value


def stock_transformer(folder: Path) -> Ideogram4Transformer2DModel:
    config = json.loads((folder / "config.json").read_text())
    transformer = Ideogram4Transformer2DModel.from_config(config)
    state = {}
    for name, value in plain_weights(folder / "diffusion_pytorch_model.safetensors").items():
        if ".attention.qkv." in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                state[name.replace("qkv", f"to_{part}")] = rows
        else:
            state[name.replace("attention.o.", "attention.to_out.0.")] = value
    transformer.load_state_dict(state)
    return transformer.eval()


def stock_pipeline(folder: Path) -> Ideogram4Pipeline:
    """The pipeline in float32 on CPU, without a progress bar."""
    encoder = Qwen3VLModel(Qwen3VLConfig.from_dict(json.loads((folder / "text_encoder" / "config.json").read_text())))
    encoder.load_state_dict(plain_weights(folder / "text_encoder" / "model.safetensors"))
    vae = AutoencoderKLFlux2.from_config(json.loads((folder / "vae" / "config.json").read_text()))
    vae.load_state_dict(plain_weights(folder / "vae" / "diffusion_pytorch_model.safetensors"))
    pipeline = Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=vae.eval(),
        text_encoder=encoder.eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=stock_transformer(folder / "transformer"),
        unconditional_transformer=stock_transformer(folder / "unconditional_transformer"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
