"""The text encoder's language model as llama.cpp has it: names, metadata and tokenizer of its architecture `qwen3vl`.

Names and keys are those of gguf-py (MIT; `MODEL_ARCH.QWEN3VL`) and of llama.cpp's converter (`conversion/qwen3vl.py`, MIT). llama.cpp
turns Qwen's heads as transformers does (GGML_ROPE_TYPE_IMROPE pairs i with i + d/2, as NEOX), so rows of q and k stay in their order.
stable-diffusion.cpp's `--llm` reads no key at all: shapes tell it the model, and it has the tokenizer built in (src/model/te/llm.hpp,
src/model_io/gguf_io.cpp at 97d2990). The vision tower is llama.cpp's `mmproj`, a file of its own, which no caption needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import gguf

from ideogram_q8.builds.gguf_tokenizer import tokenizer_values
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.gguf_header import Value
from ideogram_q8.formats.gguf_writer import KeyValue
from ideogram_q8.model.components import LANGUAGE_MODEL, TextEncoderConfig

ARCHITECTURE = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3VL]
NOT_NEEDED = ("output.weight", "rope_freqs.weight")
"""The language model's head, which makes words of features, and what llama.cpp computes once."""
EMBEDDING = f"{LANGUAGE_MODEL}embed_tokens.weight"
_OUTSIDE = {"embed_tokens": "token_embd", "norm": "output_norm"}
_INSIDE = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_BLOCK = re.compile(re.escape(LANGUAGE_MODEL) + r"layers\.(\d+)\.(.+)\.weight")


def stored_name(official: str) -> str:
    """llama.cpp's name of a tensor of the language model: `language_model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`."""
    match = _BLOCK.fullmatch(official)
    if match is not None:
        return f"blk.{match[1]}.{_INSIDE[match[2]]}.weight"
    return f"{_OUTSIDE[official.removeprefix(LANGUAGE_MODEL).removesuffix('.weight')]}.weight"


def key_values(config: TextEncoderConfig, tokenizer: Path) -> tuple[KeyValue, ...]:
    """What llama.cpp needs to know beside the tensors; of the tokenizer nothing where the folder `tokenizer` is not there.

    Raises:
        SourceError: the tokenizer is there and is none that GGUF has words for.
    """
    found = [KeyValue(key, value, gguf.GGUFValueType.UINT32) for key, value in _sizes(config).items()]
    text = _text_config(config)
    rope = _rope(text)
    found += [
        KeyValue(f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon", _number(text, "rms_norm_eps"), gguf.GGUFValueType.FLOAT32),
        KeyValue(f"{ARCHITECTURE}.rope.freq_base", _number(rope, "rope_theta"), gguf.GGUFValueType.FLOAT32),
        KeyValue(
            f"{ARCHITECTURE}.rope.dimension_sections",
            [*_sections(rope), 0],
            gguf.GGUFValueType.ARRAY,
            gguf.GGUFValueType.INT32,
        ),
    ]
    return (*found, *tokenizer_values(tokenizer, config.vocab_size)) if tokenizer.is_dir() else tuple(found)


def check_values(values: Mapping[str, Value], config: TextEncoderConfig, where: str) -> None:
    """Compares what a file says of its model with the source's config.json; a file may say nothing.

    Raises:
        ArtifactError: it is of another model.
    """
    architecture = values.get("general.architecture", ARCHITECTURE)
    if architecture != ARCHITECTURE:
        raise ArtifactError(f"{where}: general.architecture is {str(architecture)[:60]!r}, expected {ARCHITECTURE!r}")
    for key, expected in _sizes(config).items():
        found = values.get(key, expected)
        if found != expected and not key.endswith(("context_length", "n_deepstack_layers")):
            raise ArtifactError(
                f"{where}: {key} is {str(found)[:60]}, the source's text_encoder/config.json says {expected}; "
                "check which files belong together"
            )
    sections = values.get(f"{ARCHITECTURE}.rope.dimension_sections")
    expected_sections = _sections(_rope(_text_config(config)))
    if sections is not None and (not isinstance(sections, tuple) or sections[:3] != expected_sections):
        raise ArtifactError(
            f"{where}: {ARCHITECTURE}.rope.dimension_sections is {str(sections)[:60]}, "
            f"the source's text_encoder/config.json says {list(expected_sections)}; check which files belong together"
        )


def _sizes(config: TextEncoderConfig) -> dict[str, int]:
    context = _text_config(config).get("max_position_embeddings")
    sizes = {
        "block_count": config.num_layers,
        "context_length": context if isinstance(context, int) else 0,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "vocab_size": config.vocab_size,
        "n_deepstack_layers": config.vision.deepstack_mergers,
    }
    return {f"{ARCHITECTURE}.{key}": value for key, value in sizes.items()}


def _text_config(config: TextEncoderConfig) -> Mapping[str, object]:
    text = config.values["text_config"]
    assert isinstance(text, dict)  # `TextEncoderConfig.from_json` has seen to it
    return text


def _rope(text: Mapping[str, object]) -> Mapping[str, object]:
    """transformers 5 keeps all of it in rope_parameters, transformers 4 the base beside rope_scaling."""
    scaling = text.get("rope_parameters") or text.get("rope_scaling")
    return {"rope_theta": text.get("rope_theta"), **(scaling if isinstance(scaling, dict) else {})}


def _number(values: Mapping[str, object], name: str) -> float:
    value = values.get(name)
    if not isinstance(value, int | float):
        raise SourceError(f"config.json: {name} is {str(value)[:60]}, expected a number")
    return value


def _sections(rope: Mapping[str, object]) -> tuple[int, int, int]:
    found = rope.get("mrope_section")
    if not isinstance(found, list | tuple) or len(found) != 3 or not all(type(item) is int for item in found):
        raise SourceError(f"config.json: mrope_section is {str(found)[:60]}, expected three integers")
    return found[0], found[1], found[2]
