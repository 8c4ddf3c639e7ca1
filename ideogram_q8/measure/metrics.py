"""How alike two pictures are: PSNR and SSIM, as torchmetrics defines them.

SSIM differs between libraries (window, borders, channels): here it is Wang et al. 2004 with an 11x11 Gaussian window of
deviation 1.5, K1 = 0.01, K2 = 0.03, each colour channel for itself and then averaged, on 8-bit RGB values.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ideogram_q8.errors import RequestError

Picture = Image.Image | np.ndarray
SSIM_WINDOW = 11


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels (peak 255); infinite for equal pictures.

    Args:
        a, b: RGB pictures of one size, PIL or uint8 [H, W, 3].

    Raises:
        RequestError: the sizes differ or a picture is not 8-bit RGB.
    """
    first, second = _pair(a, b)
    if torch.equal(first, second):
        return math.inf
    return float(peak_signal_noise_ratio(first, second, data_range=255.0))


def finite_psnr(a: Image.Image, b: Image.Image) -> float:
    """PSNR in dB, made `finite`."""
    return finite(psnr(a, b), a)


def finite(decibels: float, picture: Image.Image) -> float:
    """Infinite decibels become the largest finite PSNR of the picture's size: one colour value differs by one.

    Infinity has no mean.
    """
    return 10 * math.log10(255**2 * picture.width * picture.height * 3) if decibels == math.inf else decibels


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity, 1 for equal pictures; arguments and errors as in `psnr`, sides at least 11 pixels."""
    first, second = _pair(a, b)
    if min(first.shape[-2:]) < SSIM_WINDOW:
        raise RequestError(f"picture is {first.shape[-1]}x{first.shape[-2]}; SSIM needs sides of {SSIM_WINDOW} pixels or more")
    value = structural_similarity_index_measure(first, second, kernel_size=SSIM_WINDOW, sigma=1.5, data_range=255.0)
    assert isinstance(value, torch.Tensor)  # a tuple only with return_full_image or return_contrast_sensitivity
    return float(value)


def _pair(a: Picture, b: Picture) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = _tensor(a), _tensor(b)
    if first.shape != second.shape:
        sizes = [f"{t.shape[-1]}x{t.shape[-2]}" for t in (first, second)]
        raise RequestError(f"pictures are {sizes[0]} and {sizes[1]}; only pictures of one size can be compared")
    return first, second


def _tensor(picture: Picture) -> torch.Tensor:
    """float64 [1, 3, H, W] of 0..255."""
    values = np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise RequestError(f"picture is {values.dtype} {list(values.shape)}; expected uint8 [height, width, 3]")
    return torch.from_numpy(values.copy()).permute(2, 0, 1).unsqueeze(0).double()
