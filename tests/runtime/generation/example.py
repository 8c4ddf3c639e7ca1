"""A VAE of FLUX.2's kind, with random weights and almost none of them."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLFlux2


def tiny_vae(latent_channels: int) -> AutoencoderKLFlux2:
    """Eight times smaller than the picture on a side, as the real one is; its statistics are whoever calls' to set."""
    torch.manual_seed(0)
    return AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )
