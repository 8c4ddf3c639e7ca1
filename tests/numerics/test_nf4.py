"""NF4 by its definition: 16 levels, high half first, one scale a block."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.numerics import nf4


def test_the_high_half_comes_first():
    packed = torch.tensor([0x0F, 0x7F], dtype=torch.uint8)
    assert nf4.dequantize(packed, torch.tensor([2.0]), 64).tolist() == [-2.0, 2.0, 0.0, 2.0]


def test_the_levels_are_quantiles():
    assert sorted(nf4.LEVELS) == list(nf4.LEVELS)
    assert (nf4.LEVELS[0], nf4.LEVELS[7], nf4.LEVELS[15]) == (-1.0, 0.0, 1.0)


@pytest.mark.parametrize("count", [64, 65, 128, 200])
def test_each_block_has_its_scale(count):
    packed = torch.full((-(-count // 2),), 0xFF, dtype=torch.uint8)
    scales = torch.arange(1.0, 1 + -(-count // 64))
    values = nf4.dequantize(packed, scales, 64)[:count]
    assert values.dtype == torch.bfloat16
    assert values.tolist() == [1.0 + i // 64 for i in range(count)]


def test_the_product_is_rounded_once():
    packed = torch.arange(256, dtype=torch.uint8)
    scale = torch.tensor([0.7310585])
    codes = torch.stack([packed >> 4, packed & 15], 1).flatten().int()
    exact = torch.tensor(nf4.LEVELS)[codes].double() * scale.double()
    assert torch.equal(nf4.dequantize(packed, scale, 4096), exact.float().bfloat16())


def test_the_table_of_a_device_is_made_once(monkeypatch):
    """On CUDA its making waits for the device, and a step decodes thousands of pieces."""
    packed, scales = torch.tensor([0x0F], dtype=torch.uint8), torch.tensor([2.0])
    first = nf4.dequantize(packed, scales, 64)
    monkeypatch.setattr(nf4.torch, "tensor", None)
    assert torch.equal(nf4.dequantize(packed, scales, 64), first)


def test_quantizing_takes_the_nearest_level():
    values = torch.randn(640, generator=torch.Generator().manual_seed(0))
    values[64:128] = 0
    codes, absmax = nf4.quantize(values)
    halves = torch.stack([codes >> 4, codes & 15], 1).view(-1, 64)
    shares = values.view(-1, 64) / absmax.clamp_min(1e-30)[:, None]
    expected = (shares[..., None] - torch.tensor(nf4.LEVELS)).abs().argmin(-1)
    assert torch.equal(halves.long(), expected) and torch.equal(absmax, values.view(-1, 64).abs().amax(1))
    assert (nf4.dequantize(codes, absmax, 64)[64:128] == 0).all()
    again, scales = nf4.quantize(nf4.dequantize(codes, absmax.bfloat16().float(), 64))
    assert torch.equal(again, codes) and torch.equal(scales, absmax.bfloat16().float())
