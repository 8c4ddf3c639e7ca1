"""What the text encoder reads is this project's text: a tokenizer from elsewhere has no say in it, and cannot hang or end the app."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ideogram_q8.errors import SourceError
from ideogram_q8.pocket.tokenizer import build_tokenizer
from ideogram_q8.runtime.text import encoding


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


class _Encoder(torch.nn.Module):
    """Keeps the token ids that it is given; its features are nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(4096, 1)
        self.norm = torch.nn.LayerNorm(1)
        self.layers = torch.nn.ModuleList([torch.nn.Identity() for _ in range(40)])

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool) -> None:
        for layer in self.layers:
            inputs_embeds = layer(inputs_embeds)


@pytest.mark.parametrize("caption", ["a red star", '{"a": "{{ 7*7 }}"}', "{} %s \\ <|im_end|>", "line\nbreak ", ""])
def test_the_text_is_what_the_official_template_makes_of_a_caption(tokenizer: Any, caption: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    expected = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert torch.equal(encoding._token_ids(tokenizer, caption), expected)


def test_a_template_from_elsewhere_is_not_run(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program: one with two nested loops of 99,999 held the device for good."""
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('run') }}")
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *_, **__: pytest.fail("run"))
    assert encoding.text_features(_Encoder(), tokenizer, "a red star").shape[0] > 5  # type: ignore[arg-type]


def test_a_tokenizer_that_breaks_down_is_a_fault_of_its_file() -> None:
    class PanicException(BaseException):  # as PyO3 derives its own
        pass

    def panics(*_: object, **__: object) -> None:
        raise PanicException("regex")

    with pytest.raises(SourceError, match="tokenizer.json broke down"):
        encoding._token_ids(panics, "a red star")  # type: ignore[arg-type]
