"""The one table of ggml's block formats, which is read without torch, agrees with gguf-py and with the numerics."""

from __future__ import annotations

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from ideogram_q8.model import schemes
from ideogram_q8.numerics import ggml


def test_sizes_and_numbers_are_those_of_gguf_py():
    for name, block in {**schemes.BLOCKS, **schemes.FLOATS}.items():
        kind = GGMLQuantizationType[name.upper()]
        assert (block.name, block.gguf_type) == (name, kind.value)
        assert (block.block_size, block.type_size) == GGML_QUANT_SIZES[kind]


def test_there_is_one_table():
    assert ggml.BLOCKS is schemes.BLOCKS and ggml.FLOATS is schemes.FLOATS
    assert set(schemes.gguf_types()) == {*schemes.BLOCKS, *schemes.FLOATS}
    assert {*schemes.layer_schemes()} == {*schemes.gguf_types(), *schemes.INT8_SCHEMES}


def test_numbers_of_files_are_those_of_llama_cpp():
    for name, block in {**schemes.BLOCKS, **schemes.FLOATS}.items():
        word = {"f32": "ALL_F32"}.get(name, f"MOSTLY_{name.upper()}{'_S' if name in ('q4_k', 'q5_k') else ''}")
        assert block.file_type == LlamaFileType[word].value
