"""A tokenizer.json as the entries of a GGUF header: llama.cpp's `gpt2`, byte-level pair encoding, which Qwen's is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.gguf_writer import KeyValue
from ideogram_q8.formats.text import read_json

_LIMIT = 32 << 20
"""Bytes of a tokenizer.json; Qwen3's has 11 MB."""
_QWEN2_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen2's and Qwen3's tokenizers cut text into words; llama.cpp calls it `qwen2`."""
_TEXT, _LIST = gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY
_SPECIAL = {"eos_token": gguf.Keys.Tokenizer.EOS_ID, "pad_token": gguf.Keys.Tokenizer.PAD_ID}


def tokenizer_values(folder: Path, vocab_size: int) -> tuple[KeyValue, ...]:
    """The entries of the tokenizer in `folder`, with as many tokens as the model's embedding has rows.

    Raises:
        SourceError: a file is missing, or holds a tokenizer of another kind or for another model.
    """
    path = folder / "tokenizer.json"
    value = _object(read_json(path, _LIMIT), path)
    model = _object(value.get("model"), path)
    if model.get("type") != "BPE" or _object(value.get("decoder"), path).get("type") != "ByteLevel":
        raise SourceError(f"{path}: expected byte-level pair encoding (BPE with a ByteLevel decoder), as Qwen's is")
    tokens, kinds = _tokens(value, model, vocab_size, path)
    merges = [_merge(item, path) for item in _list(model.get("merges"), path)]
    keys = gguf.Keys.Tokenizer
    return (
        KeyValue(keys.MODEL, "gpt2", _TEXT),
        KeyValue(keys.PRE, "qwen2" if _QWEN2_WORDS in _patterns(value.get("pre_tokenizer")) else "default", _TEXT),
        KeyValue(keys.LIST, tokens, _LIST, _TEXT),
        KeyValue(keys.TOKEN_TYPE, kinds, _LIST, gguf.GGUFValueType.INT32),
        *([KeyValue(keys.MERGES, merges, _LIST, _TEXT)] if merges else []),  # gguf-py writes no empty lists
        KeyValue(keys.ADD_BOS, False, gguf.GGUFValueType.BOOL),
        *_special_ids(folder, tokens),
        *_chat_template(folder),
    )


def _tokens(value: Mapping[str, object], model: Mapping[str, object], size: int, path: Path) -> tuple[list[str], list[int]]:
    """Texts and gguf's kinds by number. Rows of the embedding that no token has are llama.cpp's `[PAD7]`."""
    tokens, kinds = [f"[PAD{i}]" for i in range(size)], [int(gguf.TokenType.UNUSED)] * size
    for text, number in _object(model.get("vocab"), path).items():
        tokens[_index(number, size, path)] = text
        kinds[_index(number, size, path)] = int(gguf.TokenType.NORMAL)
    for item in _list(value.get("added_tokens"), path):
        added = _object(item, path)
        index = _index(added.get("id"), size, path)
        tokens[index] = str(added.get("content"))
        kinds[index] = int(gguf.TokenType.CONTROL if added.get("special") else gguf.TokenType.USER_DEFINED)
    if len(set(tokens)) < size:
        raise SourceError(f"{path}: two tokens have the same text, expected one number for each; download it again")
    return tokens, kinds


def _index(number: object, size: int, path: Path) -> int:
    if type(number) is not int or not 0 <= number < size:
        raise SourceError(f"{path}: a token has the number {str(number)[:40]}, the model has {size}; is it another model's?")
    return number


def _merge(item: object, path: Path) -> str:
    """`a b`, which newer files have as two texts."""
    parts = item.split(" ") if isinstance(item, str) else item
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise SourceError(f"{path}: a merge is {str(item)[:60]!r}, expected two texts")
    return " ".join(parts)


def _patterns(pre_tokenizer: object) -> list[str]:
    """The regular expressions by which texts are cut."""
    if not isinstance(pre_tokenizer, dict):
        return []
    inner = pre_tokenizer.get("pretokenizers")
    pattern = pre_tokenizer.get("pattern")
    own = [str(pattern["Regex"])] if isinstance(pattern, dict) and "Regex" in pattern else []
    return [*own, *(text for item in (inner if isinstance(inner, list) else []) for text in _patterns(item))]


def _special_ids(folder: Path, tokens: list[str]) -> Iterator[KeyValue]:
    path = folder / "tokenizer_config.json"
    values = _object(read_json(path), path) if path.is_file() else {}
    for name, key in _SPECIAL.items():
        token = values.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if text in tokens:
            yield KeyValue(key, tokens.index(str(text)), gguf.GGUFValueType.UINT32)


def _chat_template(folder: Path) -> Iterator[KeyValue]:
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            yield KeyValue(gguf.Keys.Tokenizer.CHAT_TEMPLATE, path.read_text(encoding="utf-8"), _TEXT)
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"cannot read {path}: {error}; download it again") from None


def _object(value: object, path: Path) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise SourceError(f"{path}: holds {str(value)[:40]!r}, expected an object; download it again")
    return value


def _list(value: object, path: Path) -> list[object]:
    if not isinstance(value, list):
        raise SourceError(f"{path}: holds {str(value)[:40]!r}, expected a list; download it again")
    return value
