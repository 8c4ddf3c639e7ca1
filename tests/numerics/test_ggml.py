"""ggml's blocks: bytes against golden vectors that ggml's own C wrote (golden/make.py), values against gguf-py."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from ideogram_q8.numerics import ggml
from ideogram_q8.numerics.ggml import BLOCKS, FLOATS, c_float, compiled

ALL = {**BLOCKS, **FLOATS}
TYPES = {name: gguf.GGMLQuantizationType(block.gguf_type) for name, block in ALL.items()}
with np.load(Path(__file__).parent / "golden" / "ggml.npz") as archive:
    GOLDEN = {key: torch.from_numpy(array) for key, array in archive.items()}
KINDS = [key.removeprefix("values/") for key in GOLDEN if key.startswith("values/")]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
WAYS = ["torch", "compiled", *DEVICES[1:]]
"""Searches in torch, compiled by numba, and on a GPU where there is one."""
TIDY = ("normal", "heavy_tailed", "positive", "ties")
"""Kinds whose values all types hold without overflow or underflow."""


def any_bytes(name: str, count: int = 60) -> torch.Tensor:
    """uint8 [count, type_size]: every pattern but infinite and NaN scales."""
    block = BLOCKS[name]
    data = (torch.arange(count * block.type_size) * 2654435761 % 2**32 >> 24).to(torch.uint8).reshape(count, -1)
    for upper_byte_of_scale in (1, 3) if name != "q6_k" else (209,):
        data[:, upper_byte_of_scale] &= 0x3F
    return data


def gguf_values(data: torch.Tensor, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):  # infinite scales
        return gguf.quants.dequantize(data.numpy(), TYPES[name])


@pytest.mark.parametrize("name", TYPES)
def test_block_sizes_are_those_of_gguf(name):
    assert gguf.GGML_QUANT_SIZES[TYPES[name]] == (ALL[name].block_size, ALL[name].type_size)
    assert TYPES[name].name == name.upper()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["plain", "weighted"])
@pytest.mark.parametrize("name", BLOCKS)
def test_bytes_equal_those_of_ggml(name, form, way, monkeypatch):
    if way == "torch":
        monkeypatch.setattr(compiled, "available", lambda _: False)
    device = "cuda" if way == "cuda" else "cpu"
    importance = GOLDEN["importance"].to(device) if form == "weighted" else None
    for kinds in (TIDY, sorted({*KINDS} - {*TIDY})):  # extreme values take the searches another way
        values = [GOLDEN[f"values/{kind}"].to(device) for kind in kinds]
        data = ggml.encode(torch.cat(values), BLOCKS[name], importance).cpu()
        for kind, part in zip(kinds, data.split([len(rows) for rows in values]), strict=True):
            assert torch.equal(part, GOLDEN[f"{form}/{name}/{kind}"]), kind


@pytest.mark.parametrize("name", BLOCKS)
def test_decoding_equals_gguf_py(name):
    for key, data in GOLDEN.items():
        if f"/{name}/" in key:
            assert np.array_equal(ggml.decode(data, BLOCKS[name]).numpy(), gguf_values(data, name), equal_nan=True), key
    data = any_bytes(name)
    assert np.array_equal(ggml.decode(data, BLOCKS[name]).numpy(), gguf_values(data, name))


@pytest.mark.parametrize("name", FLOATS)
def test_floats_equal_gguf_py(name):
    values = torch.cat([GOLDEN[f"values/{kind}"] for kind in KINDS])
    with np.errstate(over="ignore"):  # float16
        expected = gguf.quants.quantize(values.numpy(), TYPES[name]).view(np.uint8)
    data = ggml.encode(values, FLOATS[name])
    assert np.array_equal(data.numpy(), expected)
    decoded = gguf.quants.dequantize(expected.view({"f32": np.float32, "f16": np.float16, "bf16": np.uint8}[name]), TYPES[name])
    assert np.array_equal(ggml.decode(data, FLOATS[name]).numpy(), decoded)


@pytest.mark.parametrize("name", BLOCKS)
def test_importance_lowers_the_error_it_weighs(name):
    values, importance = GOLDEN["values/normal"], GOLDEN["importance"]
    plain, weighted = (
        (ggml.decode(ggml.encode(values, BLOCKS[name], weights), BLOCKS[name]) - values).square().mul(importance).sum()
        for weights in (None, importance)
    )
    assert weighted == plain if name == "q8_0" else weighted < 0.9 * plain


def test_more_bits_err_less():
    errors = {}
    for name, block in BLOCKS.items():
        values = torch.cat([GOLDEN[f"values/{kind}"] for kind in TIDY[:2]])
        errors[name] = float((ggml.decode(ggml.encode(values, block), block) - values).square().sum())
    for better, worse in [("q8_0", "q6_k"), ("q6_k", "q5_k"), ("q5_k", "q4_k"), ("q5_0", "q4_0"), ("q5_1", "q4_1")]:
        assert errors[better] < errors[worse] / 2
    assert errors["iq4_nl"] < errors["q4_0"]


@pytest.mark.parametrize("kind", TIDY)
def test_q8_0_errs_by_half_a_step_at_most(kind):
    x = GOLDEN[f"values/{kind}"]
    error = (ggml.decode(ggml.encode(x, BLOCKS["q8_0"]), BLOCKS["q8_0"]) - x).reshape(len(x), -1, 32).abs()
    amax = x.reshape(len(x), -1, 32).abs().amax(2, keepdim=True)
    # half a step of amax / 127, and 127 times the rounding of the scale to float16
    assert (error <= amax / 127 / 2 + amax * 2**-11 + 2**-24 * 127).all()


@pytest.mark.parametrize("form", ["plain", "weighted"])
@pytest.mark.parametrize("name", BLOCKS)
def test_rows_are_encoded_independently(name, form):
    x = GOLDEN["values/heavy_tailed"]
    importance = GOLDEN["importance"] if form == "weighted" else None
    rows = torch.stack([ggml.encode(row, BLOCKS[name], importance) for row in x])
    assert torch.equal(ggml.encode(x, BLOCKS[name], importance), rows)
    assert torch.equal(ggml.encode(x.reshape(2, -1, 512), BLOCKS[name], importance), rows.reshape(2, len(x) // 2, -1))


def test_large_tensors_are_encoded_in_parts():
    x = GOLDEN["values/normal"].repeat(50, 1)
    parts = ggml.encode(GOLDEN["values/normal"], BLOCKS["q4_1"], GOLDEN["importance"])
    assert torch.equal(ggml.encode(x, BLOCKS["q4_1"], GOLDEN["importance"]), parts.repeat(50, 1))


@pytest.mark.parametrize("name", BLOCKS)
def test_no_rows_give_no_bytes(name):
    width = BLOCKS[name].block_size
    assert ggml.encode(torch.zeros(0, width), BLOCKS[name]).shape == (0, BLOCKS[name].type_size)
    assert ggml.decode(torch.zeros(0, BLOCKS[name].type_size, dtype=torch.uint8), BLOCKS[name]).shape == (0, width)


@pytest.mark.parametrize("name", BLOCKS)
def test_ragged_rows_are_refused(name):
    block = BLOCKS[name]
    with pytest.raises(ValueError, match="multiples of"):
        ggml.encode(torch.zeros(2, block.block_size + 1), block)
    with pytest.raises(ValueError, match="multiples of"):
        ggml.decode(torch.zeros(2, block.type_size + 1, dtype=torch.uint8), block)
    with pytest.raises(ValueError, match="importance is"):
        ggml.encode(torch.zeros(2, block.block_size), block, torch.ones(block.block_size + 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [1, 2, 3, 17, 300])
def test_sums_run_from_the_first_row_to_the_last(width, device):
    rows = GOLDEN["values/heavy_tailed"].flatten()[: 6 * width].reshape(6, width).repeat(40, 1).to(device)
    expected = rows[0]
    for row in rows[1:]:
        expected = expected + row
    assert torch.equal(c_float.ordered_sum(rows), expected)


def test_nearest_is_the_bit_trick_of_ggml():
    values = torch.tensor([0.5, 1.5, -0.5, -2.5, 63.49999, 4194303.0, 5e6, 1e30, torch.inf, -torch.inf, torch.nan])
    with np.errstate(invalid="ignore"):
        bits = (values.numpy() + np.float32(12582912)).view(np.int32)
    assert c_float.nearest(values).tolist() == ((bits & 0x007FFFFF) - 0x00400000).tolist()
    assert c_float.nearest(values).tolist()[:6] == [0, 2, 0, -2, 63, 4194303]
