"""The pocket's tokenizer: byte-level BPE over its captions, with the chat template of Qwen's shape.

Integers 0..1000 and capitals are single tokens, so that coordinates and letters reach the transformer whole; JSON
scaffolding merges into a few tokens. Any text can be encoded, for every byte is in the vocabulary.
"""

from __future__ import annotations

import json
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ideogram_q8.pocket import data

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPLIT = r"\d{1,4}|[A-Z]| [a-z]+| |[^A-Z0-9 ]+"


def caption_text(scene: data.Scene) -> str:
    """The caption as Ideogram's code serialises it."""
    return json.dumps(data.caption_value(scene), separators=(",", ":"), ensure_ascii=False)


def build_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Trained on 4,000 generated captions; the same for a seed."""
    rng = random.Random(f"tokenizer/{seed}")
    captions = [caption_text(data.sample_scene(rng, plain=0.3)) for _ in range(4000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*(f"user\n{caption}" for caption in captions), *["\n", "assistant\n"] * 50], trainer)
    learned = json.loads(tokenizer.to_str())
    vocabulary, merges = learned["model"]["vocab"], [tuple(pair) for pair in learned["model"]["merges"]]
    for value in range(10, 1001):
        vocabulary.setdefault(str(value), len(vocabulary))
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))  # a whole integer wins over its parts
    whole.pre_tokenizer, whole.decoder = tokenizer.pre_tokenizer, tokenizer.decoder
    whole.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=whole, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def number_ids(tokenizer: PreTrainedTokenizerFast) -> dict[int, int]:
    """Token ids of the integers 0..1000, by value."""
    vocabulary = tokenizer.get_vocab()
    return {value: vocabulary[str(value)] for value in range(1001)}


def encode_caption(tokenizer: PreTrainedTokenizerFast, caption: str) -> list[int]:
    """Token ids of a caption inside the chat template."""
    messages = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
