"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from ideogram_q8.errors import RequestError
from ideogram_q8.measure.metrics import psnr, ssim


def noise(seed: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_equal_pictures() -> None:
    picture = noise(0)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, Image.fromarray(picture)) == pytest.approx(1.0, abs=1e-9)


def test_psnr_is_its_formula() -> None:
    a, b = noise(1), noise(2)
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)


def test_psnr_of_one_step_everywhere() -> None:
    a = np.full((16, 16, 3), 100, dtype=np.uint8)
    assert psnr(a, a + 1) == pytest.approx(20 * math.log10(255), rel=1e-6)


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    a, b = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (100, 150))
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-6)


def test_both_are_symmetric_and_fall_with_noise() -> None:
    a = noise(3) // 2 + 64
    slightly = np.clip(a.astype(int) + np.random.default_rng(4).integers(-3, 4, a.shape), 0, 255).astype(np.uint8)
    strongly = np.clip(a.astype(int) + np.random.default_rng(5).integers(-60, 61, a.shape), 0, 255).astype(np.uint8)
    for metric in (psnr, ssim):
        assert metric(a, slightly) == pytest.approx(metric(slightly, a), abs=1e-9)
        assert metric(a, slightly) > metric(a, strongly)


def test_refusals() -> None:
    with pytest.raises(RequestError, match="48x32 and 32x32; only pictures of one size"):
        psnr(noise(0), noise(0, 32, 32))
    with pytest.raises(RequestError, match=r"float64 \[32, 48, 3\]; expected uint8"):
        psnr(noise(0).astype(float), noise(0))
    with pytest.raises(RequestError, match="SSIM needs sides of 11"):
        ssim(noise(0, 8, 8), noise(1, 8, 8))
