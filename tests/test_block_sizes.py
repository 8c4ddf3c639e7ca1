"""The one table of ggml's block formats, which is read without torch, agrees with gguf-py and with the numerics."""

from __future__ import annotations

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ideogram_q8.model import schemes
from ideogram_q8.numerics import ggml


def test_sizes_and_numbers_are_those_of_gguf_py():
    for name, block in {**schemes.BLOCKS, **schemes.FLOATS}.items():
        kind = GGMLQuantizationType[name.upper()]
        assert (block.name, block.gguf_type) == (name, kind.value)
        assert (block.block_size, block.type_size) == GGML_QUANT_SIZES[kind]


def test_there_is_one_table():
    assert ggml.BLOCKS is schemes.BLOCKS and ggml.FLOATS is schemes.FLOATS
    assert tuple(schemes.BLOCKS) == tuple(sorted(schemes.BLOCK_TYPES, key=list(schemes.BLOCKS).index))
    assert set(schemes.BLOCKS) == set(schemes.BLOCK_TYPES)
