"""The pocket's networks: diffusers' and transformers' own classes at a size that two CPU cores can train.

The conditional and the unconditional transformer share one config, as in Ideogram 4. The text encoder has the 36 layers
that the 13 taps need; it is random and frozen, but the embeddings of the integers 0..1000 are Fourier features of their
value, so that neighbouring coordinates look alike to the transformer.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Ideogram4Transformer2DModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLModel

from ideogram_q8.model.architecture import Traits

TRAITS = Traits("Pocket", 64, 256, (128, 128), (3.0, 2.0))
LATENT_CHANNELS = 16
TEXT_HIDDEN = 64
TAPS = 13

TRANSFORMER: dict[str, object] = {
    "in_channels": 4 * LATENT_CHANNELS,
    "num_layers": 5,
    "attention_head_dim": 32,
    "num_attention_heads": 8,
    "intermediate_size": 512,
    "adaln_dim": 64,
    "llm_features_dim": TAPS * TEXT_HIDDEN,
    "rope_theta": 100,
    "mrope_section": (6, 5, 5),
    "norm_eps": 1e-5,
}
VAE: dict[str, object] = {
    "block_out_channels": (12, 48, 48, 48),
    "decoder_block_out_channels": (16, 24, 48, 96),
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 2,
    "mid_block_add_attention": False,
    "sample_size": 128,
}


def build_vae() -> AutoencoderKLFlux2:
    """An untrained autoencoder: pictures [B, 3, H, W] in [-1, 1] to latents [B, 16, H/8, W/8].

    Residual branches of the decoder start at zero, so that colours reach its output from the first step.
    """
    vae = AutoencoderKLFlux2(**VAE)
    with torch.no_grad():
        for module in vae.decoder.modules():
            if isinstance(module, ResnetBlock2D):
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
    return vae


class PatchBasis:
    """The best linear code of 8x8 patches: principal components, each divided by the root of its deviation.

    `mean` float32 [192] and `weight` float32 [192, 16], over values ordered (row, column, colour).
    """

    def __init__(self, mean: torch.Tensor, weight: torch.Tensor) -> None:
        self.mean, self.weight = mean, weight

    @classmethod
    def fit(cls, pictures: torch.Tensor) -> PatchBasis:
        """From pictures float32 [B, 3, H, W]."""
        patches = _patches(pictures).reshape(-1, 192).double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # they have no sign of their own
        values, vectors = values.flip(0)[:LATENT_CHANNELS], vectors.flip(1)[:, :LATENT_CHANNELS]
        return cls(mean.float(), (vectors / values.sqrt().sqrt()).float())

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> [B, 16, H/8, W/8]."""
        return ((_patches(pictures) - self.mean) @ self.weight).permute(0, 3, 1, 2)


def _patches(pictures: torch.Tensor) -> torch.Tensor:
    batch, _, height, width = pictures.shape
    grid = pictures.reshape(batch, 3, height // 8, 8, width // 8, 8)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, height // 8, width // 8, 192)


_LARGE = 64.0


def install_encoder(vae: AutoencoderKLFlux2, basis: PatchBasis) -> None:
    """Writes `basis` into the convolutions of the encoder, whose residual branches are switched off.

    The strided convolutions regroup 2x2 pixels into channels three times and project at the third. The final group norm and
    SiLU stay out of the way: each component is stored with both signs (silu(a) - silu(-a) = a), beside constants so large that
    the norm divides by almost the same number everywhere. Agrees with `basis.encode` to about a thousandth.
    """
    encoder = vae.encoder
    components, groups = LATENT_CHANNELS, VAE["norm_num_groups"]
    assert isinstance(groups, int)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *vae.quant_conv.parameters()]:
            parameter.zero_()
        for module in encoder.modules():
            if isinstance(module, nn.GroupNorm):
                module.weight.fill_(1.0)
            if isinstance(module, ResnetBlock2D) and module.conv_shortcut is not None:
                nn.init.dirac_(module.conv_shortcut.weight)
        nn.init.dirac_(encoder.conv_in.weight)
        for level, channels in ((0, 3), (1, 12)):
            _regroup(encoder.down_blocks[level].downsamplers[0].conv, channels)
        deviation = _project(encoder.down_blocks[2].downsamplers[0].conv, basis, groups)
        each, size = components // groups, encoder.conv_out.in_channels // groups
        for component in range(components):
            channel = component // each * size + component % each
            encoder.conv_out.weight[component, channel, 1, 1] = deviation
            encoder.conv_out.weight[component, channel + each, 1, 1] = -deviation
            vae.quant_conv.weight[component, component, 0, 0] = 1.0
        vae.quant_conv.bias[components:] = -10.0  # log variance: the code is certain


def _regroup(convolution: nn.Conv2d, channels: int) -> None:
    """A strided convolution that stacks 2x2 positions into channels ordered (row, column, channel before)."""
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                convolution.weight[(row * 2 + column) * channels + channel, channel, row, column] = 1.0


def _project(convolution: nn.Conv2d, basis: PatchBasis, groups: int) -> float:
    """The last regrouping, at once with the projection; returns the deviation that the final group norm will divide by.

    Each of `groups` channel groups holds its components, their negatives, and constants of alternating sign.
    """
    bias = convolution.bias
    assert bias is not None
    components = basis.weight.shape[1]
    size, each = convolution.out_channels // groups, components // groups
    constants = size - 2 * each
    signed = torch.zeros(convolution.out_channels, components)
    for group in range(groups):
        own = slice(group * each, (group + 1) * each)
        signed[group * size : group * size + each, own] = torch.eye(each)
        signed[group * size + each : group * size + 2 * each, own] = -torch.eye(each)
        alternating = _LARGE * (1.0 - 2.0 * (torch.arange(constants) % 2))
        bias[group * size + 2 * each : (group + 1) * size] = alternating
    bias -= signed @ (basis.mean @ basis.weight)
    # rows and columns of a patch as bits, coarse to fine, then colour: the first two regroupings took the fine bits
    weight = basis.weight.reshape(2, 2, 2, 2, 2, 2, 3, components).permute(0, 3, 1, 4, 2, 5, 6, 7)
    weight = weight.reshape(2, 2, convolution.in_channels, components)
    convolution.weight[:, :, :2, :2] = torch.einsum("ok,rcik->oirc", signed, weight)
    return _LARGE * math.sqrt(constants / size)


def build_transformer() -> Ideogram4Transformer2DModel:
    """An untrained transformer whose gates stand a little open and whose output starts at zero."""
    model = Ideogram4Transformer2DModel(**TRANSFORMER)
    with torch.no_grad():
        for block in model.layers:
            hidden = block.adaln_modulation.bias.shape[0] // 4
            block.adaln_modulation.weight.zero_()
            block.adaln_modulation.bias.zero_()
            block.adaln_modulation.bias[hidden : 2 * hidden] = 0.3
            block.adaln_modulation.bias[3 * hidden :] = 0.3
        model.final_layer.adaln_modulation.weight.zero_()
        model.final_layer.adaln_modulation.bias.zero_()
        model.final_layer.linear.weight.zero_()
        model.final_layer.linear.bias.zero_()
    return model


def build_text_encoder(vocab_size: int, number_ids: dict[int, int]) -> Qwen3VLModel:
    """A frozen random body with 36 decoder layers; `number_ids` maps an integer's value to its token id."""
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": TEXT_HIDDEN,
            "intermediate_size": 128,
            "num_hidden_layers": 36,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
            "initializer_range": 0.02,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 1,
            "patch_size": 4,
            "temporal_patch_size": 1,
            "out_hidden_size": TEXT_HIDDEN,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    )
    model = Qwen3VLModel(config)
    with torch.no_grad():
        table = model.language_model.embed_tokens.weight
        table.normal_(0.0, 1.0)
        for value, token_id in number_ids.items():
            table[token_id] = number_embedding(value)
    return model.eval().requires_grad_(False)


def number_embedding(value: int) -> torch.Tensor:
    """Fourier features of value/1000: float32 [64] of unit mean square, wavelengths from 4000 to 60."""
    frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(16.0), TEXT_HIDDEN // 2))
    angles = 2 * math.pi * frequencies * (value / 1000)
    return math.sqrt(2.0) * torch.cat([angles.sin(), angles.cos()])


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler that the official folder names; its own schedule is never used."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
