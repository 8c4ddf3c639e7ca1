"""Last layers for the pocket's text encoder, which make a language model of it: one that babbles, and one that says what it is told."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import Ideogram4PromptEnhancerHead
from diffusers.pipelines.ideogram4 import prompt_enhancer
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

SHORT_MESSAGE = "Write a caption."
"""In place of diffusers' instructions, which have 5,000 of the pocket's tokens."""
CERTAIN = 50.0
"""A logit that leaves no other token a chance."""


def save_head(folder: Path, weight: torch.Tensor) -> Path:
    """A folder as diffusers writes it, for `weight` [vocab_size, hidden_size]."""
    head = Ideogram4PromptEnhancerHead(hidden_size=weight.shape[1], vocab_size=weight.shape[0])
    head.load_state_dict({"lm_head.weight": weight})
    head.save_pretrained(folder)
    return folder


def random_head(folder: Path, vocabulary: int = 1529, width: int = 64) -> Path:
    return save_head(folder, torch.randn(vocabulary, width, generator=torch.Generator().manual_seed(1)))


@torch.no_grad()
def spelling_head(folder: Path, encoder: Qwen3VLTextModel, tokenizer: PreTrainedTokenizerBase, idea: str, answer: str) -> Path:
    """A head with which the encoder answers an idea for a square picture with `answer`.

    The answer is shorter than the encoder is wide, so there is a matrix that maps each of its hidden states to the next token.
    """
    user = prompt_enhancer.CAPTION_USER_TEMPLATE.format(aspect_ratio="1:1", original_prompt=idea)
    messages = [{"role": "system", "content": prompt_enhancer.CAPTION_SYSTEM_MESSAGE}, {"role": "user", "content": user}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)[
        "input_ids"
    ]
    words = tokenizer(answer, add_special_tokens=False)["input_ids"]
    states = encoder(input_ids=torch.cat([asked, torch.tensor([words])], 1)).last_hidden_state[0, asked.shape[1] - 1 :]
    wanted = torch.zeros(len(states), encoder.config.vocab_size, dtype=torch.float64)
    wanted[range(len(states)), [*words, tokenizer.eos_token_id]] = CERTAIN
    return save_head(folder, torch.linalg.lstsq(states.double(), wanted, driver="gelsd").solution.T.float())
