"""One branch as a function of latents and step: our own forward over diffusers' modules.

It computes what `Ideogram4Transformer2DModel.forward` computes (transformer_ideogram4.py, 0.42.1, Apache-2.0), arranged for a loop:
what depends on the step alone is computed before the first one, for all steps in one batch; a norm, its weight and its modulation are
one multiplication; q, k and v are one product, and so are w1 and w3. One picture has no padding, hence no mask. A block is nine
passes over the tokens, each of them one kernel where there is one: norm and modulation with the quantizing before qkv; norm and rotary
positions of q and of k; attention; o; norm, gate and residual; the same before w1 and w3; SwiGLU with the quantizing before w2; and
norm, gate and residual again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.transformers.transformer_ideogram4 import Ideogram4Attention, Ideogram4MRoPE, Ideogram4TransformerBlock
from torch import nn
from torch.nn import functional

from ideogram_q8.machine.devices import ATTENTIONS
from ideogram_q8.model.architecture import IMAGE_POSITION_OFFSET
from ideogram_q8.runtime.kernels import Prologue, add_normalized, int8_attention, place_heads
from ideogram_q8.runtime.kernels.linear.prologue import swiglu
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.layers.packed import folding, watched

_TEXT, _IMAGE = 0, 1
"""Rows of `embed_image_indicator`."""
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(query, key, value) [1, heads, tokens, head_dim] -> the same."""


def attention_named(name: str) -> Attend:
    """What one of `devices.ATTENTIONS` computes with."""
    return dict(zip(ATTENTIONS, (functional.scaled_dot_product_attention, int8_attention), strict=True))[name]


@dataclass(frozen=True)
class Modulation:
    """What the timesteps do: factors of normalised values, in the dtype of the activations.

    `blocks` [steps, layers, 4, hidden]: before and after attention, before and after the feed-forward network, each with the weight
    of its norm; `final` [steps, hidden].
    """

    blocks: torch.Tensor
    final: torch.Tensor


def modulation(transformer: Ideogram4Transformer2DModel, t: torch.Tensor, dtype: torch.dtype) -> Modulation:
    """For timesteps `t` float32 [steps] of 0 (noise) to 1: every modulation Linear runs once, on as many rows."""
    conditioning = functional.silu(transformer.adaln_proj(transformer.t_embedding(t.to(dtype))))
    factors = torch.empty(len(t), len(transformer.layers), 4, transformer.hidden_size, dtype=dtype, device=conditioning.device)
    for i, block in enumerate(transformer.layers):
        scale_attention, gate_attention, scale_ffn, gate_ffn = (
            block.adaln_modulation(conditioning).to(torch.float32).chunk(4, -1)
        )
        factors[:, i, 0] = (1.0 + scale_attention) * block.attention_norm1.weight
        factors[:, i, 1] = torch.tanh(gate_attention) * block.attention_norm2.weight
        factors[:, i, 2] = (1.0 + scale_ffn) * block.ffn_norm1.weight
        factors[:, i, 3] = torch.tanh(gate_ffn) * block.ffn_norm2.weight
    return Modulation(factors, 1.0 + transformer.final_layer.adaln_modulation(functional.silu(conditioning)))


@dataclass(frozen=True)
class Product:
    """Layers that see the same input, computed as one where `whole` has them all."""

    parts: tuple[nn.Module, ...]
    whole: nn.Module | None

    @classmethod
    def of(cls, parts: tuple[nn.Module, ...]) -> Product:
        return cls(parts, fusing.joined(parts))

    def after(self, before: Prologue, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What `before` makes of x [..., K] -> [..., N] of each part. Whoever watches a part by hooks sees it run by itself."""
        if self.apart:
            x = before.apply(x)
            return tuple(part(x) for part in self.parts)
        return self.together_after(before, x).chunk(len(self.parts), -1)

    def together_after(self, before: Prologue, x: torch.Tensor) -> torch.Tensor:
        """All parts' outputs side by side, where the product is not `apart`."""
        assert self.whole is not None
        fused = folding(self.whole)
        found = self.whole(before.apply(x)) if fused is None else fused.after(before, x)
        assert isinstance(found, torch.Tensor)
        return found

    @property
    def apart(self) -> bool:
        """Whether each part is computed by itself."""
        return self.whole is None or any(map(watched, self.parts))


def position_ids(text_tokens: int, grid: tuple[int, int]) -> torch.Tensor:
    """int64 [1, text + image tokens, 3]: text (i, i, i), then image (0, row, column) + IMAGE_POSITION_OFFSET, row by row."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3) + IMAGE_POSITION_OFFSET
    return torch.cat([torch.arange(text_tokens).unsqueeze(1).expand(-1, 3), image]).unsqueeze(0)


class Denoiser:
    """One branch, one caption, one size, one schedule: all that stays the same over the steps.

    Args:
        text: the projected caption [n, hidden] in the dtype of the activations, empty in the unconditional branch.
        grid: rows and columns of image tokens.
        t: float32 [steps], as in `modulation`.
        enter: called with the number of a block before that block runs.
        attention: one of `devices.ATTENTIONS`.
    """

    def __init__(
        self,
        transformer: Ideogram4Transformer2DModel,
        text: torch.Tensor,
        grid: tuple[int, int],
        t: torch.Tensor,
        enter: Callable[[int], None] | None = None,
        attention: str = ATTENTIONS[0],
    ) -> None:
        self.transformer, self.enter = transformer, enter
        self.attend = attention_named(attention)
        self.modulation = modulation(transformer, t, text.dtype)
        self.text = (text + transformer.embed_image_indicator.weight[_TEXT]).unsqueeze(0)
        self.rotary = _rotary(transformer, position_ids(len(text), grid).to(text.device), text.dtype)
        self.products = [tuple(map(Product.of, fusing.together(block))) for block in transformer.layers]

    def velocity(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """float32 [1, tokens, channels], from noise to picture, for `latents` of the same kind at the `step`-th timestep."""
        transformer = self.transformer
        hidden = torch.cat([self.text, self._embed(latents)], dim=1)
        for i, block in enumerate(transformer.layers):
            if self.enter is not None:
                self.enter(i)
            _run_block(block, self.products[i], self.attend, hidden, self.rotary, self.modulation.blocks[step, i])
        final = transformer.final_layer
        image = final.norm_final(hidden[:, self.text.shape[1] :]) * self.modulation.final[step]
        return final.linear(image).to(torch.float32)

    def _embed(self, latents: torch.Tensor) -> torch.Tensor:
        transformer = self.transformer
        return transformer.input_proj(latents.to(self.text.dtype)) + transformer.embed_image_indicator.weight[_IMAGE]


class Side(Protocol):
    """Where one branch is computed beside the other."""

    def start(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Asks for `work` to be done after all that was asked for so far; its result is there after `join`."""

    def join(self, found: torch.Tensor) -> None:
        """What is asked for from now on begins after the work that gives `found`, and may use it."""


class CudaSide:
    """A stream of its own. One serves all pictures of a model: each stream has a workspace and memory of the allocator to itself."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def start(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            return work()

    def join(self, found: torch.Tensor) -> None:
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        found.record_stream(current)


def side_of(device: torch.device) -> Side | None:
    """A new one; None where a device does one thing at a time."""
    return CudaSide(device) if device.type == "cuda" else None


def velocities(
    unconditional: Denoiser | None, conditional: Denoiser, latents: torch.Tensor, step: int, side: Side | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities of both branches: computed one after the other, or the unconditional one on a CUDA stream of its own.

    Without an unconditional branch both are the conditional one's: guidance between equals changes nothing.
    """
    if unconditional is None:
        alone = conditional.velocity(latents, step)
        return alone, alone
    if side is None:
        return unconditional.velocity(latents, step), conditional.velocity(latents, step)
    first = side.start(lambda: unconditional.velocity(latents, step))
    second = conditional.velocity(latents, step)
    side.join(first)
    return first, second


def _rotary(
    transformer: Ideogram4Transformer2DModel, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [1, tokens, 1, head_dim]; the first half of the sines is negative, so that no half need be negated.

    diffusers' `Ideogram4MRoPE` multiplies positions and frequencies by a matrix product, which TF32 may round (NVIDIA's containers turn
    TF32 on): positions from 65536 on would all be multiples of 64. Here each angle is one product of two float32 numbers.
    """
    cos, sin = _angles(transformer.rotary_emb, positions)
    sin[..., : sin.shape[-1] // 2].neg_()
    return cos.to(dtype).unsqueeze(2), sin.to(dtype).unsqueeze(2)


def _angles(rotary: Ideogram4MRoPE, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`Ideogram4MRoPE.forward` (transformer_ideogram4.py, 0.42.1): int64 [1, tokens, 3] -> cosines and sines float32 [1, tokens, head_dim].

    Frequency j belongs to row or column of a token where j % 3 is 1 or 2 and j is below thrice their share, else to its first position.
    """
    frequencies = rotary.inv_freq.to(torch.float32)
    each = positions.to(torch.float32)[..., None] * frequencies  # [1, tokens, 3, head_dim / 2]
    angles = each[:, :, 0].clone()
    for axis in (1, 2):
        mine = slice(axis, 3 * rotary.mrope_section[axis], 3)
        angles[..., mine] = each[:, :, axis, mine]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _run_block(
    block: Ideogram4TransformerBlock,
    products: tuple[Product, ...],
    attend: Attend,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    factors: torch.Tensor,
) -> None:
    """Adds to the residual stream `hidden` [1, tokens, hidden] what a block adds; `factors` [4, hidden] as in `Modulation`."""
    # nothing is named that need not outlive its line: at full size each is 50 MB or more
    qkv, gate = products
    query, key, value = qkv.after(Prologue("rms_norm", factors[0], block.attention_norm1.eps), hidden)
    x = _attention(block.attention, attend, query, key, value, rotary)
    del query, key, value
    x = block.attention.to_out[0](x)
    add_normalized(hidden, x, factors[1], block.attention_norm2.eps)
    del x
    x = _feed_forward(block.feed_forward.w2, gate, Prologue("rms_norm", factors[2], block.ffn_norm1.eps), hidden)
    add_normalized(hidden, x, factors[3], block.ffn_norm2.eps)


def _feed_forward(w2: nn.Module, gate: Product, before: Prologue, x: torch.Tensor) -> torch.Tensor:
    fused = folding(w2)
    if gate.apart or fused is None:
        x = swiglu(*gate.after(before, x))  # both halves are gone when w2 runs
        return w2(x)
    x = gate.together_after(before, x)
    return fused.after(Prologue("swiglu"), x)


def _attention(
    attention: Ideogram4Attention,
    attend: Attend,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Norm and rotary positions in place, then attention; query, key, value and the result [1, tokens, hidden]."""
    heads = attention.num_heads, attention.head_dim
    query, key, value = query.unflatten(-1, heads), key.unflatten(-1, heads), value.unflatten(-1, heads)
    place_heads(query, attention.norm_q.weight, *rotary, attention.norm_q.eps)
    place_heads(key, attention.norm_k.weight, *rotary, attention.norm_k.eps)
    found = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return found.transpose(1, 2).flatten(2)
