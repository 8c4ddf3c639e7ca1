"""The text encoder as a GGUF file: llama.cpp's names, metadata and tokenizer, and features that hardly differ."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import gguf
import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.gguf_build import open_text_encoder as open_gguf
from ideogram_q8.builds.gguf_text_encoder import stored_name
from ideogram_q8.builds.gguf_tokenizer import tokenizer_values
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.model.components import LANGUAGE_MODEL, component
from ideogram_q8.numerics import ggml
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import Part, Recipe, choose
from ideogram_q8.runtime.generation.sampling import encode_caption
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.loading.networks import GgmlEmbedding, build_text_encoder
from ideogram_q8.sources import TextEncoderSource, open_text_encoder
from tests.gguf_files import TYPES, write_gguf
from tests.text_encoders import TINY_ENCODER, write_text_encoder

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CAPTION = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
FILE = "ideogram4-text-encoder-Q8_0.gguf"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TextEncoderSource:
    return open_text_encoder(write_text_encoder(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The pocket's text encoder in Q8_0."""
    source = open_text_encoder("pocket")
    folder = tmp_path_factory.mktemp("built") / "q8_0"
    quantize(source, choose("q8_0", source.config), folder)
    return folder


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@torch.no_grad()
def answer(reader, config=TINY_ENCODER) -> torch.Tensor:
    return build_text_encoder(reader, config, CPU, torch.float32)(
        input_ids=torch.arange(12)[None], use_cache=False
    ).last_hidden_state


@dataclasses.dataclass(frozen=True)
class Rounded:
    """A source's language model with the values that blocks of a kind can have, by llama.cpp's names."""

    source: TextEncoderSource
    kinds: dict[str, str]

    @property
    def names(self) -> list[str]:
        return [name for name in self.source.branch("text_encoder").names if name.startswith(LANGUAGE_MODEL)]

    def read(self, name: str) -> torch.Tensor:
        block = TYPES[self.kinds[stored_name(name)]]
        return ggml.decode(ggml.encode(self.source.branch("text_encoder").read(name).float(), block), block)

    def packed(self, name: str) -> None:
        return None


def as_floats(kind: str) -> Recipe:
    """Every Linear stored as a float type."""
    part = choose("q8_0", TINY_ENCODER).parts["text_encoder"]
    layers = tuple(dataclasses.replace(plan, scheme=kind) for plan in part.layers)
    return dataclasses.replace(
        choose("q8_0", TINY_ENCODER), scheme="mixed", policy="floats", parts={"text_encoder": Part(layers, ())}
    )


# ---- what we write ----


def test_names_are_those_of_gguf_py():
    """Whose table translates transformers' names for llama.cpp's own converter."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3VL, TINY_ENCODER.num_layers)
    language = [name for name in component(TINY_ENCODER).shapes if name.startswith(LANGUAGE_MODEL)]
    for name in language:
        theirs = table.get_name(f"model.{name.removeprefix(LANGUAGE_MODEL)}", try_suffixes=(".weight",))
        assert stored_name(name) == theirs, name
    assert len({stored_name(name) for name in language}) == len(language) == 2 + 11 * TINY_ENCODER.num_layers


def test_gguf_py_finds_the_language_model_and_what_describes_it(built):
    opened, source = gguf.GGUFReader(built / FILE), open_text_encoder("pocket")
    shapes = {name: shape for name, shape in component(source.config).shapes.items() if name.startswith(LANGUAGE_MODEL)}
    expected = {stored_name(name): list(reversed(shape)) for name, shape in shapes.items()}
    assert {tensor.name: tensor.shape.tolist() for tensor in opened.tensors} == expected
    kinds = {tensor.name: tensor.tensor_type.name for tensor in opened.tensors}
    assert all(kinds[name] == ("F32" if len(shape) == 1 else "Q8_0") for name, shape in expected.items())
    values = {key: field.contents() for key, field in opened.fields.items() if key.startswith(("qwen3vl.", "general.a"))}
    assert values.pop("qwen3vl.attention.layer_norm_rms_epsilon") == pytest.approx(1e-6)
    assert values == {
        "general.architecture": "qwen3vl",
        "general.alignment": 32,
        "qwen3vl.block_count": 36,
        "qwen3vl.context_length": 2048,
        "qwen3vl.embedding_length": 64,
        "qwen3vl.feed_forward_length": 128,
        "qwen3vl.attention.head_count": 2,
        "qwen3vl.attention.head_count_kv": 1,
        "qwen3vl.attention.key_length": 32,
        "qwen3vl.attention.value_length": 32,
        "qwen3vl.vocab_size": 1529,
        "qwen3vl.n_deepstack_layers": 1,
        "qwen3vl.rope.freq_base": 10000.0,
        "qwen3vl.rope.dimension_sections": [6, 5, 5, 0],
    }


def test_the_tokenizer_goes_along(built):
    from transformers import AutoTokenizer

    fields = gguf.GGUFReader(built / FILE).fields
    found = {key.split(".")[-1]: field.contents() for key, field in fields.items() if key.startswith("tokenizer.ggml.")}
    stock = AutoTokenizer.from_pretrained(WEIGHTS / "tokenizer")
    assert found["tokens"] == stock.convert_ids_to_tokens(range(1529))
    special = [index for index, kind in enumerate(found["token_type"]) if kind == gguf.TokenType.CONTROL]
    assert special == sorted(stock.added_tokens_decoder)
    model = json.loads((WEIGHTS / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert [merge.split(" ") for merge in found["merges"]] == model["merges"]
    assert (found["eos_token_id"], found["padding_token_id"]) == (stock.eos_token_id, stock.pad_token_id)
    assert (found["model"], found["pre"], found["add_bos_token"]) == ("gpt2", "default", False)


@pytest.mark.parametrize(("kind", "exact"), [("bf16", True), ("f32", True), ("f16", False)])
def test_floats_answer_as_the_source_does(source, tmp_path, kind, exact):
    quantize(source, as_floats(kind), tmp_path / "out")
    expected = answer(SourceWeights(source.branch("text_encoder")))
    found = answer(open_artifact(tmp_path / "out").branch("text_encoder"))
    assert torch.equal(found, expected) if exact else distance(found, expected) < 1e-3
    alone = open_gguf(next((tmp_path / "out").glob("*.gguf")), TINY_ENCODER)
    assert torch.equal(answer(alone.branch("text_encoder")), found)


@pytest.mark.parametrize("scheme", ["q8_0", "q6_k", "q4_k_m", "q4_k_s"])
def test_blocks_answer_as_the_weights_that_they_stand_for(source, tmp_path, scheme):
    manifest = quantize(source, choose(scheme, TINY_ENCODER), tmp_path / "out")
    kinds = {record.name: record.scheme for records in manifest.tensors.values() for record in records}
    found = answer(open_artifact(tmp_path / "out", verify=True).branch("text_encoder"))
    assert torch.allclose(found, answer(Rounded(source, kinds)), rtol=1e-4, atol=1e-5)


def test_shards_are_one_encoder(source, tmp_path):
    from ideogram_q8.builds.layout import Packaging

    recipe = choose("q8_0", TINY_ENCODER)
    quantize(source, recipe, tmp_path / "whole")
    manifest = quantize(source, recipe, tmp_path / "shards", packaging=Packaging(split_bytes=30_000))
    assert len(manifest.files) > 2
    whole, shards = (open_artifact(tmp_path / name, verify=True).branch("text_encoder") for name in ("whole", "shards"))
    assert torch.equal(answer(shards), answer(whole)) and len(shards.files) == len(manifest.files)
    alone = open_gguf(tmp_path / "shards" / manifest.files[1].path, TINY_ENCODER)
    assert alone.digests == tuple(file.sha256 for file in manifest.files)


def test_only_the_rows_of_an_embedding_that_are_asked_for_are_decoded(built):
    model = load("pocket", text_encoder=built).text_encoder
    embedding = model.embed_tokens
    assert isinstance(embedding, GgmlEmbedding)
    ids = torch.tensor([[3, 1000, 3]])
    whole = ggml.decode(embedding.weight, ggml.BLOCKS["q8_0"])
    assert torch.equal(embedding(ids), whole[ids])
    assert load("pocket", dtype=torch.bfloat16, text_encoder=built).text_encoder.embed_tokens(ids).dtype == torch.bfloat16


# ---- what others write ----


def llama_tensors(source: TextEncoderSource, kind: str = "q8_0") -> dict[str, tuple[torch.Tensor, str]]:
    """As llama.cpp's converter and quantizer leave them, the head that makes words included."""
    reader = source.branch("text_encoder")
    found = {}
    for name in reader.names:
        if name.startswith(LANGUAGE_MODEL):
            values = reader.read(name)
            fits = values.dim() == 2 and values.shape[-1] % TYPES[kind].block_size == 0
            found[stored_name(name)] = (values, kind if fits else ("f32" if values.dim() == 1 else "f16"))
    return {**found, "output.weight": (torch.ones(40, 64), "q6_k" if kind == "q6_k" else "q8_0")}


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "iq4_nl", "bf16", "q4_k"])
def test_a_file_of_llama_cpp_answers_as_the_weights_that_it_has(source, tmp_path, kind):
    tensors = llama_tensors(source, kind)
    build = open_gguf(write_gguf(tmp_path / "Qwen3VL-8B-Instruct-X.gguf", tensors, "qwen3vl"), TINY_ENCODER)
    expected = answer(Rounded(source, {name: stored for name, (_, stored) in tensors.items()}))
    assert torch.allclose(answer(build.branch("text_encoder")), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda writer: writer.add_block_count(3), "qwen3vl.block_count is 3, the source's text_encoder/config.json says 2"),
        (lambda writer: writer.add_head_count_kv(6), "qwen3vl.attention.head_count_kv is 6"),
        (lambda writer: writer.add_string("qwen3vl.embedding_length", "64"), "qwen3vl.embedding_length is 64, the source's"),
        (lambda writer: writer.add_rope_dimension_sections([24, 20, 20, 0]), r"says \[6, 5, 5\]; check which files belong"),
        (
            lambda writer: writer.add_string("general.architecture", "llama"),
            "general.architecture is 'llama', expected 'qwen3vl'",
        ),
    ],
)
def test_metadata_of_another_model_is_refused(source, tmp_path, change, message):
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "qwen3vl")
    change(writer)
    for name, (values, _) in llama_tensors(source).items():
        writer.add_tensor(name, values.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ArtifactError, match=message):
        open_gguf(path, TINY_ENCODER)


def test_missing_and_unknown_tensors_are_named(source, tmp_path):
    tensors = llama_tensors(source)
    less = {name: value for name, value in tensors.items() if name != "blk.1.ffn_up.weight"}
    with pytest.raises(ArtifactError, match=r"language_model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        open_gguf(write_gguf(tmp_path / "less.gguf", less), TINY_ENCODER)
    more = {**tensors, "v.blk.0.attn_qkv.weight": (torch.ones(8, 32), "f16")}
    with pytest.raises(ArtifactError, match=r"v\.blk\.0\.attn_qkv\.weight is unknown"):
        open_gguf(write_gguf(tmp_path / "more.gguf", more), TINY_ENCODER)


# ---- tokenizers ----


QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def write_tokenizer(folder: Path, **changes) -> Path:
    value = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": QWEN2}}]},
        "added_tokens": [{"id": 4, "content": "<|end|>", "special": True}, {"id": 5, "content": "<x>", "special": False}],
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(value | changes), encoding="utf-8")
    return folder


def test_the_words_of_qwen_are_known_and_gaps_are_filled(tmp_path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}), encoding="utf-8")
    found = {item.key.removeprefix("tokenizer.ggml."): item.value for item in tokenizer_values(folder, 7)}
    assert found["pre"] == "qwen2" and found["eos_token_id"] == 4 and found["merges"] == ["a b"]
    assert found["tokens"] == ["a", "b", "ab", "[PAD3]", "<|end|>", "<x>", "[PAD6]"]
    kinds = gguf.TokenType
    assert found["token_type"] == [*[kinds.NORMAL] * 3, kinds.UNUSED, kinds.CONTROL, kinds.USER_DEFINED, kinds.UNUSED]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "Unigram"}}, "expected byte-level pair encoding"),
        ({"decoder": {"type": "WordPiece"}}, "expected byte-level pair encoding"),
        ({"model": None}, "holds 'None', expected an object"),
        ({"model": {"type": "BPE", "vocab": {"a": 7}, "merges": []}}, "a token has the number 7, the model has 7"),
        ({"model": {"type": "BPE", "vocab": {"a": True}, "merges": []}}, "a token has the number True"),
        ({"model": {"type": "BPE", "vocab": {"<x>": 0}, "merges": []}}, "two tokens have the same text"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["abc"]}}, "a merge is 'abc', expected two texts"),
        ({"added_tokens": {}}, "expected a list"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, changes, message):
    with pytest.raises(SourceError, match=message):
        tokenizer_values(write_tokenizer(tmp_path / "tokenizer", **changes), 7)


# ---- in use ----


def test_features_are_nearly_those_of_the_source(built, tmp_path):
    expected = encode_caption(load("pocket"), CAPTION)
    by_folder = load("pocket", text_encoder=built)
    found = encode_caption(by_folder, CAPTION)
    assert 0 < distance(found, expected) < 0.01
    assert by_folder.variant == "fp8, text encoder q8_0"
    shutil.copy(built / FILE, tmp_path / "foreign.gguf")
    alone = load("pocket", text_encoder=tmp_path / "foreign.gguf")
    assert torch.equal(encode_caption(alone, CAPTION), found) and alone.variant == "fp8, text encoder gguf-q8_0"
    assert alone.artifact_sha256 == by_folder.artifact_sha256 == load("pocket", text_encoder=built / FILE).artifact_sha256


def test_the_commands(tmp_path, capsys):
    out, picture = tmp_path / "te", tmp_path / "picture.png"
    assert main(["quantize", "pocket", "--component", "text_encoder", "--scheme", "q8_0", "--out", str(out)]) == 0
    painting = [
        "generate",
        "pocket",
        "--caption",
        "a red star",
        "--preset",
        "turbo-12",
        "--size",
        "64x64",
        "--out",
        str(picture),
    ]
    assert main([*painting, "--text-encoder", str(out / FILE)]) == 0
    assert "fp8, text encoder q8_0" in capsys.readouterr().out and picture.is_file()
    assert main([*painting, "--text-encoder", str(WEIGHTS / "nowhere.gguf")]) == 2
    assert "nowhere.gguf: No such file or directory" in capsys.readouterr().err
