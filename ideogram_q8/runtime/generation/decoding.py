"""From latent tokens to pictures: the VAE.

The decoder is diffusers', run by our own forward, which goes through large feature maps in strips of rows. Its convolutions see one
row beyond their strip and its norms have the statistics of the whole map, so there are no seams: diffusers' tiled decoding normalises
each tile by itself and blends the edges. What is saved is everything but a layer's input and output.
"""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from torch import nn
from torch.nn import functional

from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.model import latent_norm
from ideogram_q8.model.architecture import PATCH, Traits, TransformerConfig
from ideogram_q8.runtime.kernels.choosing import workspace

Grid = tuple[int, int]
"""Rows and columns of image tokens."""
_STRIP = {"cpu": 1 << 20}
"""Values of a feature map that are worked on at a time, by device: on a CPU what stays in cache."""
_STRIP_ELSEWHERE = 1 << 23
_SMALLER = 16
"""So many times smaller are the strips of a decoder that ran out of memory."""
_log = logging.getLogger(__name__)


def strip_values(device: str) -> int:
    """Values of a feature map that a device of this type works on at a time."""
    return _STRIP.get(device, _STRIP_ELSEWHERE)


@dataclass(frozen=True)
class Denormalization:
    """value * scale + shift, both float32 [channels of a token] on the VAE's device."""

    scale: torch.Tensor
    shift: torch.Tensor


def denormalization(vae: AutoencoderKLFlux2, traits: Traits, config: TransformerConfig) -> Denormalization:
    """What the checkpoint was made for (`latent_norm`); said in the log."""
    choice = latent_norm.latent_norm(traits, config)
    _log.info("latents of %s are denormalised by %s", traits.name, latent_norm.SAID[choice])
    if choice == "fixed":
        numbers = torch.tensor([latent_norm.SCALE, latent_norm.SHIFT], dtype=torch.float32, device=vae.device)
        return Denormalization(numbers[0], numbers[1])
    return of_vae(vae)


def of_vae(vae: AutoencoderKLFlux2) -> Denormalization:
    """The VAE's batch-norm statistics, as in diffusers' pipeline_ideogram4.py."""
    deviation = torch.sqrt(vae.bn.running_var.to(torch.float32) + vae.config.batch_norm_eps)
    return Denormalization(deviation, vae.bn.running_mean.to(torch.float32))


def unpack(norm: Denormalization, latents: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Tokens float32 [B, rows * columns, 4 C] to the VAE's latents float32 [B, C, 2 rows, 2 columns].

    Token values are ordered (row, column, channel), as in diffusers' pipeline_ideogram4.py.
    """
    values = latents * norm.scale + norm.shift
    channels = values.shape[-1] // PATCH**2
    values = values.reshape(-1, *grid, PATCH, PATCH, channels).permute(0, 5, 1, 3, 2, 4)
    return values.reshape(-1, channels, grid[0] * PATCH, grid[1] * PATCH)


@torch.no_grad()
def decode(vae: AutoencoderKLFlux2, norm: Denormalization, latents: torch.Tensor, grid: Grid) -> Image.Image:
    """The RGB picture of tokens float32 [1, rows * columns, 4 C].

    Minutes of work are in the latents, so a device that runs out of memory does not end it: what kernels keep is given back, strips get
    smaller, and at last a copy of the VAE in float32 decodes on the CPU, which differs from the device's picture by roundings.

    Raises:
        Exception: the CPU's memory ran out too, or something else went wrong.
    """
    workspace.release()  # no step comes before the next picture, and decoding takes most
    values = unpack(norm, latents, grid).to(vae.dtype)
    strip = strip_values(vae.device.type)
    for values_at_once in (strip, strip // _SMALLER):
        image = _where_there_is_room(vae, values, values_at_once)
        if image is not None:
            return image
        _log.warning("%s ran out of memory while a picture was decoded: decoding goes on with less", vae.device)
        _give_back(vae.device)
    _log.warning("the picture is decoded on the CPU, which takes longer")
    return to_image(run_decoder(copy_on_cpu(vae), values.to("cpu", torch.float32))[0])


def _where_there_is_room(vae: AutoencoderKLFlux2, latents: torch.Tensor, strip: int) -> Image.Image | None:
    """The picture of latents as `run_decoder` takes them; None where a device other than the CPU ran out of memory."""
    try:
        return to_image(run_decoder(vae, latents, strip)[0])
    except Exception as error:
        if latents.device.type == "cpu" or not lacks_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # feature maps are still local variables there
        return None


def _give_back(device: torch.device) -> None:
    """Gives the device what weights were expanded into, and the allocator's cache."""
    workspace.release()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def copy_on_cpu(vae: AutoencoderKLFlux2) -> AutoencoderKLFlux2:
    """The same VAE in float32 on the CPU, itself where it is that already; allocates nothing on the device."""
    if vae.device.type == "cpu" and vae.dtype == torch.float32:
        return vae
    there: dict[int, object] = {}
    for each in (*vae.parameters(), *vae.buffers()):
        here = each.detach().to("cpu", torch.float32 if each.is_floating_point() else each.dtype)
        there[id(each)] = nn.Parameter(here, requires_grad=False) if isinstance(each, nn.Parameter) else here
    return copy.deepcopy(vae, there)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """Floating [3, H, W] in [-1, 1], clamped, to an RGB picture; rounds half to even, as diffusers does."""
    values = (pixels.to(torch.float32) / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy()))


# ---- the decoder, a strip at a time ----


def run_decoder(vae: AutoencoderKLFlux2, latents: torch.Tensor, strip: int | None = None) -> torch.Tensor:
    """`vae.decode` (autoencoder_kl_flux2.py, vae.py; diffusers 0.42.1): [1, C, h, w] -> [1, 3, 8 h, 8 w] in the VAE's dtype.

    Args:
        strip: values of a feature map that are worked on at a time; None is `strip_values`.
    """
    decoder = vae.decoder
    strip = strip or strip_values(latents.device.type)
    x = latents if vae.post_quant_conv is None else vae.post_quant_conv(latents)
    x = decoder.mid_block(decoder.conv_in(x), None)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = _run_resnet(resnet, x, strip)
        for upsampler in block.upsamplers or ():
            x = _convolve(x, strip, upsampler.conv, scale=2)
    return _convolve(x, strip, decoder.conv_out, decoder.conv_norm_out)


def _run_resnet(resnet: ResnetBlock2D, x: torch.Tensor, strip: int) -> torch.Tensor:
    inner = _convolve(x, strip, resnet.conv1, resnet.norm1)
    outer = x.clone() if resnet.conv_shortcut is None else _convolve(x, strip, resnet.conv_shortcut)
    del x  # of the caller's as well, once it has the result
    return _convolve(inner, strip, resnet.conv2, resnet.norm2, onto=outer)


def _convolve(
    x: torch.Tensor,
    strip: int,
    conv: nn.Conv2d,
    norm: nn.GroupNorm | None = None,
    *,
    scale: int = 1,
    onto: torch.Tensor | None = None,
) -> torch.Tensor:
    """conv(enlarge(silu(norm(x)))), or without norm conv(enlarge(x)); added to `onto`, where that is given, in place.

    Args:
        conv: with kernel 1 or 3, padded to keep the size.
        scale: each pixel becomes scale x scale ones.
    """
    height, width = x.shape[2] * scale, x.shape[3] * scale
    affine = None if norm is None else _affine(x, norm, strip)
    out = x.new_empty(len(x), conv.out_channels, height, width) if onto is None else onto
    for rows in _strips(height, width * max(x.shape[1], conv.out_channels), strip):
        part = functional.conv2d(_input(x, rows, conv.kernel_size[0] // 2, affine, scale), conv.weight, conv.bias)
        if onto is None:
            out[:, :, rows] = part
        else:
            out[:, :, rows] += part
        del part  # before the next one is made
    return out


def _input(
    x: torch.Tensor, rows: slice, halo: int, affine: tuple[torch.Tensor, torch.Tensor] | None, scale: int
) -> torch.Tensor:
    """What a convolution sees to make `rows` of its output: normalised, enlarged, and padded with zeros where `x` ends."""
    top, bottom = max(0, rows.start - halo), min(x.shape[2] * scale, rows.stop + halo)
    first = top // scale
    strip = x[:, :, first : -(-bottom // scale)]
    if affine is not None:
        strip = functional.silu(torch.addcmul(affine[1], strip.to(torch.float32), affine[0]).to(x.dtype))
    if scale > 1:
        strip = functional.interpolate(strip, scale_factor=scale, mode="nearest")
        strip = strip[:, :, top - first * scale : bottom - first * scale]
    return functional.pad(strip, (halo, halo, halo - (rows.start - top), halo - (bottom - rows.stop)))


def _affine(x: torch.Tensor, norm: nn.GroupNorm, strip: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and summand [B, C, 1, 1] float32 that normalise `x` by the statistics of the whole map.

    Mean and variance of a union from those of its parts (Chan, Golub, LeVeque 1979).
    """
    means, variances, counts = [], [], []
    for rows in _strips(x.shape[2], x.shape[3] * x.shape[1], strip):
        part = x[:, :, rows].to(torch.float32).reshape(len(x), norm.num_groups, -1)
        variance, mean = torch.var_mean(part, dim=-1, correction=0)
        means.append(mean.double())
        variances.append(variance.double())
        counts.append(part.shape[-1])
    weight = torch.tensor(counts, dtype=torch.float64, device=x.device).reshape(-1, 1, 1) / sum(counts)
    mean = (weight * torch.stack(means)).sum(0)
    variance = (weight * (torch.stack(variances) + (torch.stack(means) - mean).square())).sum(0)
    each = norm.num_channels // norm.num_groups
    rate = (variance + norm.eps).rsqrt().repeat_interleave(each, -1) * norm.weight.double()
    summand = norm.bias.double() - mean.repeat_interleave(each, -1) * rate
    return rate.float()[..., None, None], summand.float()[..., None, None]


def _strips(height: int, row_values: int, values: int) -> Iterator[slice]:
    step = max(1, values // row_values)
    return (slice(start, min(height, start + step)) for start in range(0, height, step))
