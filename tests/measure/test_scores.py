"""Scores by models on CLIP's architecture: the cosine that they define, on a tiny random model; no weights, no score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from ideogram_q8.errors import RequestError
from ideogram_q8.measure.words.scores import JUDGES, Judge, Scorer, words_of

TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of two tiny towers, with a tokenizer of a few letters."""
    place = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = TEXT | {"max_position_embeddings": 6, "bos_token_id": 0, "eos_token_id": 1}
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)).save_pretrained(place)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(place)
    words = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>", "ab</w>", "c</w>"]
    (place / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\na b</w>\n", encoding="utf-8")
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}), encoding="utf-8")
    return place


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def test_the_score_is_the_cosine_times_its_factor(folder: Path) -> None:
    scorer = Scorer(Judge(str(folder), str(folder), 100.0))
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(picture(1), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        seen = model(input_ids=torch.tensor([[0, 6, 5, 1]]), pixel_values=pixels)
        expected = 100 * float((seen.image_embeds * seen.text_embeds).sum())  # both have length 1
    assert scorer(picture(1), "ab b") == pytest.approx(expected, abs=1e-4)
    assert abs(expected) <= 100 and scorer(picture(2), "ab b") != pytest.approx(expected, abs=1e-4)


def test_long_captions_are_cut_off_where_the_model_stops_reading(folder: Path) -> None:
    scorer = Scorer(Judge(str(folder), str(folder), 1.0))
    assert scorer(picture(1), "a b a b a b") == scorer(picture(1), "a b a b b b")


@pytest.mark.parametrize("name", JUDGES)
def test_without_weights_there_is_no_score(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match=f"the weights of {JUDGES[name].model} are not here: hf download"):
        Scorer(JUDGES[name])


def test_a_caption_is_given_in_words() -> None:
    caption = {
        "high_level_description": "A poster.",
        "compositional_deconstruction": {
            "background": "plain blue",
            "elements": [
                {"type": "text", "bbox": [0, 0, 250, 1000], "text": "OPEN", "desc": "white letters"},
                {"type": "obj", "bbox": [375, 250, 875, 750], "desc": "a yellow star"},
            ],
        },
    }
    assert words_of(json.dumps(caption)) == 'A poster. plain blue. the text "OPEN". white letters. a yellow star'
