"""Token order and normalisation, checked on values whose place is known."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2
from torch.nn import functional

from ideogram_q8.model import latent_norm
from ideogram_q8.model.architecture import IDEOGRAM4, IDEOGRAM4_TRAITS
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.runtime.generation import decoding, preview
from ideogram_q8.runtime.generation.decoding import decode, denormalization, of_vae, run_decoder, to_image, unpack
from ideogram_q8.runtime.generation.preview import LinearDecoder
from ideogram_q8.runtime.loading.networks import load_vae
from tests.runtime.generation.example import tiny_vae
from tests.second_device import NAME, second_device
from tests.synthetic import TINY, TINY_TRAITS


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLFlux2:
    vae = tiny_vae(2)
    vae.bn.running_mean.copy_(torch.arange(8.0))
    vae.bn.running_var.copy_(torch.arange(1.0, 9.0))
    return vae.eval().requires_grad_(False)


def test_token_values_are_row_column_channel(vae: AutoencoderKLFlux2) -> None:
    rows, columns = 2, 3
    tokens = torch.randn(1, rows * columns, 8, generator=torch.Generator().manual_seed(1))
    maps = unpack(of_vae(vae), tokens, (rows, columns))
    assert maps.shape == (1, 2, 2 * rows, 2 * columns)
    for y in range(2 * rows):
        for x in range(2 * columns):
            for channel in range(2):
                value = (y % 2 * 2 + x % 2) * 2 + channel
                token = tokens[0, y // 2 * columns + x // 2, value]
                expected = token * (vae.bn.running_var[value] + vae.config.batch_norm_eps).sqrt() + value
                assert torch.isclose(maps[0, channel, y, x], expected)


def test_a_picture_has_sixteen_pixels_a_token(vae: AutoencoderKLFlux2) -> None:
    assert decode(vae, of_vae(vae), torch.zeros(1, 6, 8), (2, 3)).size == (48, 32)


def test_a_linear_decoder_is_imitated_exactly(vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that shows channel 0 as red and the negative of channel 1 as blue, in 8x8 blocks."""

    def shown(_: AutoencoderKLFlux2, values: torch.Tensor, *_strip: int) -> torch.Tensor:
        planes = torch.stack([values[:, 0] / 20, torch.zeros_like(values[:, 0]), 0.1 - values[:, 1] / 20], 1)
        return planes.repeat_interleave(8, -1).repeat_interleave(8, -2)

    for module in (decoding, preview):
        monkeypatch.setattr(module, "run_decoder", shown)
    tokens = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2))
    imitated = LinearDecoder.fit(vae, of_vae(vae))(tokens, (2, 3))
    difference = np.asarray(imitated, dtype=int) - np.asarray(decode(vae, of_vae(vae), tokens, (2, 3)), dtype=int)
    assert np.abs(difference).max() <= 1


def test_pixels_outside_the_range_are_clamped() -> None:
    assert to_image(torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1)).getpixel((0, 0)) == (0, 128, 255)


@pytest.fixture(scope="module")
def large_vae() -> AutoencoderKLFlux2:
    """As Ideogram 4's: attention in the middle, several layers a block; and norms that are no identity."""
    torch.manual_seed(1)
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 16, 16), layers_per_block=2, latent_channels=4, norm_num_groups=4)
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias)
    return vae.eval().requires_grad_(False)


@pytest.mark.parametrize("values", [1 << 24, 20_000, 1], ids=["whole", "strips", "single rows"])
@pytest.mark.parametrize("size", [(12, 10), (7, 9)], ids=str)
def test_strips_have_no_seams(
    large_vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch, values: int, size: tuple[int, int]
) -> None:
    monkeypatch.setitem(decoding._STRIP, "cpu", values)
    latents = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(3))
    expected = large_vae.decode(latents, return_dict=False)[0]
    assert (run_decoder(large_vae, latents) - expected).abs().max() < 1e-4 * expected.abs().max()


MESSAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", MESSAGES, ids=[type(each).__name__ + str(each)[-20:] for each in MESSAGES])
@pytest.mark.parametrize("most", [3000, 0], ids=["smaller strips", "the CPU"])
def test_a_picture_outlives_a_decoder_that_runs_out_of_memory(
    large_vae: AutoencoderKLFlux2,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
    error: Exception,
) -> None:
    """A device that has no room for convolutions of more than `most` values; whatever words say so."""
    plain, norm, grid = functional.conv2d, of_vae(large_vae), (6, 5)
    tokens = torch.randn(1, 30, 16, generator=torch.Generator().manual_seed(3))
    expected = decode(large_vae, norm, tokens, grid)

    def convolve(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if x.device.type == NAME and x.numel() > most:
            raise error
        return plain(x, *rest)

    monkeypatch.setattr(decoding, "_STRIP_ELSEWHERE", 30_000)
    with second_device() as far:
        there = copy.deepcopy(large_vae).to(far)
        norm_there = decoding.Denormalization(norm.scale.to(far), norm.shift.to(far))
        monkeypatch.setattr(functional, "conv2d", convolve)
        found = decode(there, norm_there, tokens.to(far), grid)
        assert {each.device.type for each in there.parameters()} == {NAME}
    difference = np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int))
    assert difference.max() <= 1
    assert ("decoded on the CPU" in caplog.text) == (most == 0)
    assert "far:0 ran out of memory while a picture was decoded" in caplog.text


def test_other_faults_of_the_decoder_are_not_hidden(large_vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(functional, "conv2d", fails)
    with second_device() as far, pytest.raises(RuntimeError, match="illegal memory access"):
        there = copy.deepcopy(large_vae).to(far)
        norm = of_vae(large_vae)
        decode(there, decoding.Denormalization(norm.scale.to(far), norm.shift.to(far)), torch.zeros(1, 6, 16).to(far), (2, 3))


def test_bfloat16_strips_round_like_bfloat16(large_vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(3))
    exact = run_decoder(large_vae, latents)
    coarse = copy.deepcopy(large_vae).to(torch.bfloat16)
    stock = coarse.decode(latents.bfloat16(), return_dict=False)[0].float()
    monkeypatch.setitem(decoding._STRIP, "cpu", 20_000)
    ours = run_decoder(coarse, latents.bfloat16())
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).norm() < 1.2 * (stock - exact).norm()


def test_the_pocket_decodes_several_pictures_at_once() -> None:
    vae = load_vae(WEIGHTS / "vae", torch.device("cpu"), torch.float32)
    latents = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    expected = vae.decode(latents, return_dict=False)[0]
    assert (run_decoder(vae, latents) - expected).abs().max() < 1e-4


def test_ideogram4_is_denormalised_by_the_official_constants(caplog: pytest.LogCaptureFixture) -> None:
    """shift + scale * value, and not by the statistics that lie in its VAE."""
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), latent_channels=32, norm_num_groups=4, layers_per_block=1)
    with caplog.at_level("INFO"):
        norm = denormalization(vae, IDEOGRAM4_TRAITS, IDEOGRAM4)
    assert "latents of Ideogram 4 are denormalised by the fixed constants of the official code" in caplog.text
    tokens = torch.randn(1, 1, 128, generator=torch.Generator().manual_seed(0))
    found = unpack(norm, tokens, (1, 1))
    for channel, value in ((0, 0), (31, 31), (0, 32), (5, 64 + 5), (31, 127)):
        y, x = value // 64, value // 32 % 2
        expected = tokens[0, 0, value].double() * latent_norm.SCALE[value] + latent_norm.SHIFT[value]
        assert abs(found[0, channel, y, x].double() - expected) < 1e-6


@pytest.mark.parametrize(
    ("numbers", "digest"),
    [
        (latent_norm.SHIFT, "500785259e56d2e507f450e2a81b4e714b747104100a4ddac1c9681e20c62620"),
        (latent_norm.SCALE, "8aff847687d2712d2363ec1267bf7daf83efe14a9aa7f28547e72b8363e899cc"),
    ],
    ids=["LATENT_SHIFT", "LATENT_SCALE"],
)
def test_the_constants_are_those_of_the_official_code(numbers: tuple[float, ...], digest: str) -> None:
    """latent_norm.py at 415abf4, as float32, lowest byte first."""
    assert len(numbers) == 128
    assert hashlib.sha256(np.array(numbers, "<f4").tobytes()).hexdigest() == digest


def test_other_models_are_denormalised_by_their_vae(vae: AutoencoderKLFlux2) -> None:
    for traits, config in ((TINY_TRAITS, TINY), (IDEOGRAM4_TRAITS, TINY), (TINY_TRAITS, IDEOGRAM4)):
        norm = denormalization(vae, traits, config)
        assert torch.equal(norm.shift, torch.arange(8.0))
        assert torch.equal(norm.scale, torch.sqrt(torch.arange(1.0, 9.0) + 1e-4))
