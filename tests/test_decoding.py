"""Token order and normalisation, checked on values whose place is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2

from ideogram_q8.decoding import LinearDecoder, decode, to_image, unpack


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLFlux2:
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )
    vae.bn.running_mean.copy_(torch.arange(8.0))
    vae.bn.running_var.copy_(torch.arange(1.0, 9.0))
    return vae.eval().requires_grad_(False)


def test_token_values_are_row_column_channel(vae: AutoencoderKLFlux2) -> None:
    rows, columns = 2, 3
    tokens = torch.randn(1, rows * columns, 8, generator=torch.Generator().manual_seed(1))
    maps = unpack(vae, tokens, (rows, columns))
    assert maps.shape == (1, 2, 2 * rows, 2 * columns)
    for y in range(2 * rows):
        for x in range(2 * columns):
            for channel in range(2):
                value = (y % 2 * 2 + x % 2) * 2 + channel
                token = tokens[0, y // 2 * columns + x // 2, value]
                expected = token * (vae.bn.running_var[value] + vae.config.batch_norm_eps).sqrt() + value
                assert torch.isclose(maps[0, channel, y, x], expected)


def test_a_picture_has_sixteen_pixels_a_token(vae: AutoencoderKLFlux2) -> None:
    assert decode(vae, torch.zeros(1, 6, 8), (2, 3)).size == (48, 32)


def test_a_linear_decoder_is_imitated_exactly(vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that shows channel 0 as red and the negative of channel 1 as blue, in 8x8 blocks."""

    def shown(values: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        planes = torch.stack([values[:, 0] / 20, torch.zeros_like(values[:, 0]), 0.1 - values[:, 1] / 20], 1)
        return (planes.repeat_interleave(8, -1).repeat_interleave(8, -2),)

    monkeypatch.setattr(vae, "decode", shown)
    tokens = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2))
    preview = LinearDecoder.fit(vae)(tokens, (2, 3))
    difference = np.asarray(preview, dtype=int) - np.asarray(decode(vae, tokens, (2, 3)), dtype=int)
    assert np.abs(difference).max() <= 1


def test_pixels_outside_the_range_are_clamped() -> None:
    assert to_image(torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1)).getpixel((0, 0)) == (0, 128, 255)
