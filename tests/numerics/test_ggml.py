"""ggml's blocks: bytes and values against gguf-py and against ggml's own C."""

from __future__ import annotations

import hashlib

import gguf
import numpy as np
import pytest
import torch

from ideogram_q8.numerics import ggml
from ideogram_q8.numerics.ggml import BLOCKS

TYPES = {name: gguf.GGMLQuantizationType(block.gguf_type) for name, block in BLOCKS.items()}


def values(kind: str, rows: int = 40, width: int = 512) -> torch.Tensor:
    """float32 [rows, width] without a random generator, so that digests can be pinned."""
    bits = torch.arange(rows * width) * 2654435761 % 2**32 >> 8
    uniform = bits.float() / 2**24 - 0.5
    flat = {
        "uniform": uniform,
        "heavy": uniform * uniform * uniform,
        "sparse": torch.where(bits % 37 == 0, uniform, torch.zeros_like(uniform)),
        "constant": uniform[::32].repeat_interleave(32),
        "tiny": uniform * 2.0**-20,
        "positive": uniform + 0.5,
        "zero": torch.zeros_like(uniform),
    }[kind]
    return flat.reshape(rows, width)


KINDS = ("uniform", "heavy", "sparse", "constant", "tiny", "positive", "zero")


@pytest.mark.parametrize("name", BLOCKS)
def test_block_sizes_are_those_of_gguf(name):
    block = BLOCKS[name]
    assert gguf.GGML_QUANT_SIZES[TYPES[name]] == (block.block_size, block.type_size)
    assert TYPES[name].name == name.upper()


@pytest.mark.parametrize("kind", KINDS)
def test_q8_0_bytes_equal_gguf_py(kind):
    x = values(kind)
    assert np.array_equal(ggml.encode(x, BLOCKS["q8_0"]).numpy(), gguf.quants.quantize(x.numpy(), TYPES["q8_0"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BLOCKS)
def test_decoding_equals_gguf_py(name, kind):
    data = ggml.encode(values(kind), BLOCKS[name])
    assert np.array_equal(ggml.decode(data, BLOCKS[name]).numpy(), gguf.quants.dequantize(data.numpy(), TYPES[name]))


@pytest.mark.parametrize("name", BLOCKS)
def test_any_bytes_decode_as_in_gguf_py(name):
    data = torch.arange(60 * BLOCKS[name].type_size) * 2654435761 % 2**32 >> 24
    data = data.to(torch.uint8).reshape(60, -1)
    data[:, 1] &= 0x3F  # the upper byte of each float16 scale: no infinities
    data[:, 3] &= 0x3F
    ours = ggml.decode(data, BLOCKS[name]).numpy()
    assert np.array_equal(ours, gguf.quants.dequantize(data.numpy(), TYPES[name]))


def test_q4_k_bytes_equal_those_of_ggml():
    """Digests of what ggml's C (quantize_row_q4_K_ref, gcc -O2 -ffp-contract=off) writes for the same values."""
    pinned = {
        "uniform": "38fc9d0a08cf616f052a56dd76d837bb6bba64d8377eda3e8359af4dfd63e763",
        "heavy": "69b9b79db9bd8b52152cf95eb357d269ee22c554144a593c5e9bfd488b21d474",
        "sparse": "1f22ff3e7c35c3137242cadb286b9c69f2749c585548bee38d7333661c2d6aaa",
        "constant": "b8e1c47bb06ff51772602ed0ce2007f184caccc5da6461d343eab1b5337c7efa",
        "tiny": "3dd594051f4fc79f9f73e45ba8716dfc4f64ccc2860891d190bf055ed390e199",
        "positive": "16cb9dc59966b371ce0677cdd145fd59412a47cab3ecb633b1936b7886084dca",
        "zero": "2ddbd07ddfda5d4f9b1c44c8ff16f7e38027d275af6bf57f317b136060d695a9",
    }
    found = {kind: hashlib.sha256(ggml.encode(values(kind), BLOCKS["q4_k"]).numpy().tobytes()).hexdigest() for kind in KINDS}
    assert found == pinned


@pytest.mark.parametrize("kind", ["uniform", "heavy", "positive"])
def test_errors_are_bounded_by_half_a_step(kind):
    x = values(kind)
    q8_0 = ggml.decode(ggml.encode(x, BLOCKS["q8_0"]), BLOCKS["q8_0"])
    amax = x.reshape(40, -1, 32).abs().amax(2, keepdim=True)
    # half a step of amax / 127, and 127 times the rounding of the scale to float16
    bound = amax / 127 / 2 + amax * 2**-11 + 2**-24 * 127
    assert ((q8_0 - x).reshape(40, -1, 32).abs() <= bound).all()

    q4_k = ggml.decode(ggml.encode(x, BLOCKS["q4_k"]), BLOCKS["q4_k"])
    span = (x.reshape(40, -1, 32).amax(2) - x.reshape(40, -1, 32).amin(2).clamp_max(0)).amax()
    assert (q4_k - x).abs().max() <= span / 15  # the search may clip an extreme value, by less than a step
    assert (q4_k - x).square().mean() < (span / 15 / 2) ** 2 / 2


@pytest.mark.parametrize("name", BLOCKS)
def test_rows_are_encoded_independently(name):
    x = values("heavy")
    rows = torch.stack([ggml.encode(row, BLOCKS[name]) for row in x])
    assert torch.equal(ggml.encode(x, BLOCKS[name]), rows)
    assert torch.equal(ggml.encode(x.reshape(4, 10, 512), BLOCKS[name]), rows.reshape(4, 10, -1))


def test_q8_0_is_idempotent():
    once = ggml.decode(ggml.encode(values("heavy"), BLOCKS["q8_0"]), BLOCKS["q8_0"])
    again = ggml.decode(ggml.encode(once, BLOCKS["q8_0"]), BLOCKS["q8_0"])
    assert (again - once).abs().max() <= once.abs().max() * 2**-11


@pytest.mark.parametrize("name", BLOCKS)
def test_ragged_rows_are_refused(name):
    with pytest.raises(ValueError, match="multiples of"):
        ggml.encode(torch.zeros(2, BLOCKS[name].block_size + 1), BLOCKS[name])
    with pytest.raises(ValueError, match="multiples of"):
        ggml.decode(torch.zeros(2, BLOCKS[name].type_size + 1, dtype=torch.uint8), BLOCKS[name])
