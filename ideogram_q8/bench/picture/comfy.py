"""Ideogram 4 the way ComfyUI drives comfy-kitchen, for a measurement beside ours.

What was read, none of it copied (it is GPL-3.0): comfy/ldm/ideogram4/model.py and comfy/ldm/lumina/model.py as of August 2026. There every
Linear of a block, w1 and w3 apart, is comfy-kitchen's `int8_linear` on rotated weights, queries and keys go through its
`rms_rope_split_half`, and the rest is plain torch; the caption is projected and modulation computed at every step; nothing is padded.
diffusers' block computes the same, so that here its Linears and its attention are replaced, and it is called without its mask.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.transformers.transformer_ideogram4 import Ideogram4Attention
from torch import nn

from ideogram_q8.bench.linear.peer_linears import kitchen
from ideogram_q8.bench.linear.random_weights import RandomBranch, WeightForm
from ideogram_q8.bench.picture.scene import Built, StepScene, guided
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.model.architecture import BRANCHES, Branch, diffusers_names, linears
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.runtime.generation.denoising import position_ids
from ideogram_q8.runtime.loading.networks import build_transformer

_TEXT, _IMAGE = 0, 1
"""Rows of `embed_image_indicator`."""


class KitchenLinear(nn.Module):
    """comfy-kitchen's Linear on a packed weight."""

    def __init__(self, packed: Int8Weight) -> None:
        super().__init__()
        self._linear = kitchen(packed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._linear(x)


class _Processor:
    """Attention on a fused qkv, with norms and positions in one call. `rotary` [1, tokens, 1, head_dim / 2, 2, 2]."""

    def __init__(self, qkv: KitchenLinear) -> None:
        self.qkv = qkv

    def __call__(
        self,
        attn: Ideogram4Attention,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        import comfy_kitchen

        assert attention_mask is None
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, attn.num_heads, attn.head_dim)).unbind(2)
        query, key = comfy_kitchen.rms_rope_split_half(
            query, key, image_rotary_emb, attn.norm_q.weight, attn.norm_k.weight, attn.norm_q.eps
        )
        found = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
        return attn.to_out[0](found.transpose(1, 2).flatten(2))


def build(scene: StepScene) -> Built:
    """Both branches as ComfyUI would run them."""
    transformers = {branch: _transformer(scene, branch) for branch in BRANCHES}
    conditional = _call(scene, transformers["conditional"], scene.features)
    unconditional = _call(scene, transformers["unconditional"], scene.features[:0])

    def step(index: int) -> torch.Tensor:
        return guided(unconditional(index), conditional(index))

    return Built(step, note="its plain torch: no CUDA" if scene.device.type == "cpu" else "")


def _transformer(scene: StepScene, branch: Branch) -> Ideogram4Transformer2DModel:
    """With W8A8 Linears in the blocks, rotated where the width allows it."""
    forms = {
        linear.name: WeightForm("w8a8", 0 if linear.in_features % GROUP else GROUP)
        for linear in linears(scene.config)
        if linear.sees_tokens
    }
    reader = RandomBranch(scene.pool, scene.config, branch, forms)
    transformer = build_transformer(reader, scene.config, scene.device, scene.dtype)
    for name in forms:
        packed = reader.packed(name)
        assert isinstance(packed, Int8Weight)
        layer, targets = KitchenLinear(packed), diffusers_names(f"{name}.weight")
        for target in targets:
            transformer.set_submodule(target.removesuffix(".weight"), layer if len(targets) == 1 else nn.Identity())
        if len(targets) > 1:
            transformer.get_submodule(name.removesuffix(".qkv")).set_processor(_Processor(layer))
    return transformer


def _call(scene: StepScene, transformer: Ideogram4Transformer2DModel, features: torch.Tensor) -> Callable[[int], torch.Tensor]:
    """The forward of one branch -> float32 [1, image tokens, channels]."""
    rotary = _rotary(transformer, position_ids(len(features), scene.grid).to(scene.device))
    indicator, t = transformer.embed_image_indicator.weight, scene.t.to(scene.dtype)

    def call(index: int) -> torch.Tensor:
        text = transformer.llm_cond_proj(transformer.llm_cond_norm(features)) + indicator[_TEXT]
        image = transformer.input_proj(scene.latents.to(scene.dtype)) + indicator[_IMAGE]
        hidden = torch.cat([text.unsqueeze(0), image], 1)
        conditioning = torch.nn.functional.silu(transformer.adaln_proj(transformer.t_embedding(t[index : index + 1])[:, None]))
        for block in transformer.layers:
            hidden = block(hidden, None, rotary, conditioning)
        return transformer.final_layer(hidden, conditioning)[:, len(features) :].float()

    return call


def _rotary(transformer: Ideogram4Transformer2DModel, positions: torch.Tensor) -> torch.Tensor:
    """Cosines and sines as comfy-kitchen wants them: a 2x2 matrix for each pair, float32 [1, tokens, 1, head_dim / 2, 2, 2]."""
    cos, sin = (x[..., : x.shape[-1] // 2] for x in transformer.rotary_emb(positions))
    return torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2)).unsqueeze(2)
