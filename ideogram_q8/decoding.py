"""From latent tokens to pictures: the VAE, and a linear imitation of it that is cheap enough to run at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from PIL import Image
from torch.nn import functional

from ideogram_q8.architecture import PATCH

Grid = tuple[int, int]
"""Rows and columns of image tokens."""


def unpack(vae: AutoencoderKLFlux2, latents: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Tokens float32 [B, rows * columns, 4 C] to the VAE's latents float32 [B, C, 2 rows, 2 columns].

    Token values are ordered (row, column, channel) and normalised by the VAE's batch-norm statistics, as in diffusers'
    pipeline_ideogram4.py.
    """
    deviation = torch.sqrt(vae.bn.running_var.to(torch.float32) + vae.config.batch_norm_eps)
    values = latents * deviation + vae.bn.running_mean.to(torch.float32)
    channels = values.shape[-1] // PATCH**2
    values = values.reshape(-1, *grid, PATCH, PATCH, channels).permute(0, 5, 1, 3, 2, 4)
    return values.reshape(-1, channels, grid[0] * PATCH, grid[1] * PATCH)


@torch.no_grad()
def decode(vae: AutoencoderKLFlux2, latents: torch.Tensor, grid: Grid) -> Image.Image:
    """The RGB picture of tokens float32 [1, rows * columns, 4 C]."""
    values = unpack(vae, latents, grid).to(vae.dtype)
    return to_image(vae.decode(values, return_dict=False)[0][0])


def to_image(pixels: torch.Tensor) -> Image.Image:
    """Floating [3, H, W] in [-1, 1], clamped, to an RGB picture; rounds half to even, as diffusers does."""
    values = (pixels.to(torch.float32) / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy()))


@dataclass(frozen=True)
class LinearDecoder:
    """Each latent position gives its own block of pixels by one matrix: the least-squares fit to what the VAE does.

    `vae` gives the normalisation; `weight` float32 [C + 1, 3 * side * side], its last row the offset, `side` in pixels.
    """

    vae: AutoencoderKLFlux2
    weight: torch.Tensor
    side: int

    @classmethod
    @torch.no_grad()
    def fit(cls, vae: AutoencoderKLFlux2, pictures: int = 12, grid: Grid = (4, 4)) -> LinearDecoder:
        """Decodes `pictures` random latents, smooth ones and rough ones, and fits their pixels (fixed seed)."""
        generator = torch.Generator("cpu").manual_seed(0)
        channels = vae.config.latent_channels * PATCH**2
        coarse = torch.randn((pictures, channels, 2, 2), generator=generator)
        smooth = functional.interpolate(coarse, grid, mode="bilinear", align_corners=False)
        rough = torch.randn(smooth.shape, generator=generator) * torch.linspace(0.1, 0.8, pictures).reshape(-1, 1, 1, 1)
        tokens = (smooth + rough).flatten(2).transpose(1, 2).to(vae.device)
        values = unpack(vae, tokens, grid)
        pixels = vae.decode(values.to(vae.dtype), return_dict=False)[0].to(torch.float32)
        side = pixels.shape[-1] // values.shape[-1]
        blocks = functional.pixel_unshuffle(pixels, side)
        weight = torch.linalg.lstsq(_with_one(_rows(values)), _rows(blocks)).solution
        return cls(vae, weight, side)

    def __call__(self, latents: torch.Tensor, grid: Grid) -> Image.Image:
        """The preview of tokens float32 [1, rows * columns, 4 C], at the picture's full size."""
        blocks = _with_one(_rows(unpack(self.vae, latents, grid))) @ self.weight
        planes = blocks.t().reshape(1, -1, grid[0] * PATCH, grid[1] * PATCH)
        return to_image(functional.pixel_shuffle(planes, self.side)[0])


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B * H * W, C]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _with_one(rows: torch.Tensor) -> torch.Tensor:
    return functional.pad(rows, (0, 1), value=1.0)
