"""A random text encoder of Qwen3-VL-8B-Instruct's size, in FP8 as Ideogram 4 has it, made in host memory in seconds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.bench.linear.random_weights import FP8, Pool
from ideogram_q8.builds.packed import Packed
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig, component

QWEN3_VL_8B = TextEncoderConfig.from_json(
    {
        "model_type": "qwen3_vl",
        "text_config": {
            "model_type": "qwen3_vl_text",
            "hidden_size": 4096,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 12288,
            "vocab_size": 151936,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0, "mrope_section": [24, 20, 20]},
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "in_channels": 3,
            "num_heads": 16,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 4096,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    }
)
"""Qwen/Qwen3-VL-8B-Instruct, config.json (Apache-2.0)."""


@dataclass(frozen=True)
class RandomEncoder:
    """The language model of a random text encoder as `networks.WeightReader`, its Linears in FP8."""

    pool: Pool
    config: TextEncoderConfig
    files: tuple[Path, ...] = ()

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = component(self.config).shapes
        return {name: shape for name, shape in shapes.items() if name.startswith(LANGUAGE_MODEL)}

    @functools.cached_property
    def _linears(self) -> set[str]:
        return {linear.name for linear in component(self.config).linears}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._shapes)

    def read(self, name: str) -> torch.Tensor:
        """A tensor by its official name, in the pool's dtype; the embedding's rows are drawn, being too many to make."""
        shape = self._shapes[name]
        if len(shape) == 1:
            return self.pool.values(name, shape, 1.0, 0.1)
        found = self.pool.draw(name, shape[0], shape[1], "bf16")
        assert isinstance(found, torch.Tensor)
        return found

    def bytes_of(self, name: str) -> int:
        """Bytes of a tensor as it is loaded, its scales included."""
        shape, item = self._shapes[name], self.pool.dtype.itemsize
        if name.removesuffix(".weight") in self._linears:
            return shape[0] * (shape[1] + 4)
        return torch.Size(shape).numel() * item

    def packed(self, name: str) -> Packed | None:
        """The FP8 weight of a Linear."""
        if name not in self._linears:
            return None
        rows, width = self._shapes[f"{name}.weight"]
        found = self.pool.draw(name, rows, width, FP8)
        assert not isinstance(found, torch.Tensor)
        return found
