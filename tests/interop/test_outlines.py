"""Captions under outlines' grammar, as diffusers builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers.pipelines.ideogram4 import prompt_enhancer

from ideogram_q8.runtime.loading.text_encoder import load_text_encoder
from ideogram_q8.runtime.text import expansion
from ideogram_q8.runtime.text.expansion import Idea, expand, open_head
from ideogram_q8.sources import open_text_encoder
from tests.heads import SHORT_MESSAGE, random_head

pytest.importorskip("outlines", reason="pip install 'outlines>=1.3.3,<2'")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_even_babble_begins_as_a_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_enhancer, "CAPTION_SYSTEM_MESSAGE", SHORT_MESSAGE)
    found: list[str] = []
    monkeypatch.setattr(expansion, "read", lambda text, tokens, cut_off: (found.append(text) or "", []))
    encoder = load_text_encoder(open_text_encoder("pocket"))
    for seed in (1, 2):
        expand(
            encoder.model, encoder.tokenizer, open_head(random_head(tmp_path)), Idea("a red star", 64, 64, seed), max_tokens=24
        )
    first, second = found
    assert first != second
    assert all(text.startswith('{"high_level_description":"') for text in found), found
    assert list(expansion._grammars) == [encoder.tokenizer.name_or_path]
