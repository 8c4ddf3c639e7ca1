"""Tiny random text encoders for tests that need files but no trained weights, in the official FP8 layout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from ideogram_q8.model.components import TextEncoderConfig, component
from tests.synthetic import Tensors

VALUES: dict[str, object] = {
    "architectures": ["Qwen3VLModel"],
    "ideogram_fp8_weight_only": True,
    "model_type": "qwen3_vl",
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_vl_text",
        "attention_bias": False,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 128,
        "num_attention_heads": 6,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"mrope_section": [6, 5, 5], "rope_theta": 10000.0, "rope_type": "default"},
        "vocab_size": 40,
    },
    "vision_config": {
        "model_type": "qwen3_vl_vision",
        "deepstack_visual_indexes": [0, 1],
        "depth": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "in_channels": 3,
        "intermediate_size": 48,
        "num_heads": 1,
        "num_position_embeddings": 16,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
TINY_ENCODER = TextEncoderConfig.from_json(VALUES)
"""Three query heads to each head of keys and values, and more of them than fit the hidden width, as in no square matrix."""


QWEN3_VL_8B = TextEncoderConfig.from_json(
    {
        "architectures": ["Qwen3VLModel"],
        "ideogram_fp8_weight_only": True,
        "model_type": "qwen3_vl",
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "attention_bias": False,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "max_position_embeddings": 262144,
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"mrope_section": [24, 20, 20], "rope_theta": 5_000_000.0, "rope_type": "default"},
            "vocab_size": 151936,
        },
        "vision_config": {
            "model_type": "qwen3_vl_vision",
            "deepstack_visual_indexes": [8, 16, 24],
            "depth": 27,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1152,
            "in_channels": 3,
            "intermediate_size": 4304,
            "num_heads": 16,
            "num_position_embeddings": 2304,
            "out_hidden_size": 4096,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
)
"""Ideogram 4's text encoder (Qwen/Qwen3-VL-8B-Instruct, config.json)."""


def write_text_encoder(folder: Path, convert: Callable[[Tensors], Tensors] = lambda tensors: tensors) -> Path:
    """Writes text_encoder/ with random weights into `folder`; returns it. `convert` changes the tensors."""
    part = folder / "text_encoder"
    part.mkdir(parents=True)
    (part / "config.json").write_text(json.dumps(VALUES, indent=2) + "\n", encoding="utf-8")
    save_file(convert(fp8_encoder()), part / "model.safetensors", metadata={"format": "pt"})
    return folder


def fp8_encoder() -> Tensors:
    """F8_E4M3 `weight` and F32 `weight_scale` of every Linear, the vision tower's too, the rest BF16."""
    generator = torch.Generator().manual_seed(0)
    model = component(TINY_ENCODER)
    quantized = {f"{linear.name}.weight" for linear in model.linears}
    tensors: Tensors = {}
    for name, shape in model.shapes.items():
        values = torch.randn(shape, generator=generator)
        if name in quantized:
            values /= math.sqrt(shape[1])
            scale = values.abs().amax(1) / 448
            tensors[name] = (values / scale[:, None]).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale"] = scale
        else:
            tensors[name] = ((1.0 if "norm" in name else 0.0) + 0.1 * values).to(torch.bfloat16)
    return tensors
