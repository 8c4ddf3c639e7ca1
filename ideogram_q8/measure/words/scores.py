"""Stand-alone quality by published models on CLIP's architecture: CLIP score, PickScore, HPSv2.

Each is the cosine between a picture and its caption in words, in the model's own space (times 100 for the first two, as published). The
models are read from the local Hub cache and never downloaded: without them there is no score. CLIP reads 77 tokens, of which a JSON
caption would spend most on its own keys, so it gets the words: the description and those of the elements, in the caption's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch.nn import functional

from ideogram_q8 import captions as caption
from ideogram_q8.captions.suite import Case
from ideogram_q8.errors import RequestError


@dataclass(frozen=True)
class Judge:
    """A published model: its Hub id, the id of its preprocessor, and what its cosine is multiplied by."""

    model: str
    processor: str
    factor: float


JUDGES: Mapping[str, Judge] = {
    "clip_score": Judge("openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14", 100.0),
    "pick_score": Judge("yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 100.0),
    "hps_v2": Judge("adams-story/HPSv2-hf", "openai/clip-vit-base-patch32", 1.0),
}
"""By the metric's name. HPSv2 is the conversion of `xswu/HPSv2` to transformers' CLIPModel."""


class Scorer:
    """One judge, loaded.

    Raises (when made):
        RequestError: its files are not in the local cache, or are not a CLIP model.
    """

    def __init__(self, judge: Judge, device: str = "cpu") -> None:
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

        self.judge, self.device = judge, device
        try:
            self._model = CLIPModel.from_pretrained(judge.model, local_files_only=True).eval().to(device)
            self._tokenizer = CLIPTokenizer.from_pretrained(judge.processor, local_files_only=True)
            self._images = CLIPImageProcessor.from_pretrained(judge.processor, local_files_only=True)
        except (OSError, ValueError) as error:
            ids = " and ".join(dict.fromkeys((judge.model, judge.processor)))
            raise RequestError(f"the weights of {judge.model} are not here: hf download {ids}") from error

    @torch.no_grad()
    def __call__(self, picture: Image.Image, text: str) -> float:
        """The score of an RGB picture under `text`, cut off after the tokens that the model reads."""
        limit = self._model.config.text_config.max_position_embeddings
        words = self._tokenizer(text, truncation=True, max_length=limit, return_tensors="pt").to(self.device)
        pixels = self._images(picture, return_tensors="pt")["pixel_values"].to(self.device)
        seen = self._model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
        return self.judge.factor * float(functional.cosine_similarity(seen.image_embeds, seen.text_embeds).item())


def _maker(name: str) -> Callable[[str], Callable[[Image.Image, Case], float]]:
    def made(device: str) -> Callable[[Image.Image, Case], float]:
        scorer = Scorer(JUDGES[name], device)
        return lambda picture, case: scorer(picture, words_of(case.caption))

    return made


clip, pick, hps = _maker("clip_score"), _maker("pick_score"), _maker("hps_v2")
"""The three metrics as `formats.metrics` names them; each makes its function on a device, and raises as `Scorer` does."""


def words_of(text: str) -> str:
    """What a caption says in words, without keys, boxes and colours."""
    return ". ".join(_words(caption.parse(text)))


def _words(value: Mapping[str, object]) -> Iterator[str]:
    for key, item in value.items():
        if key in ("high_level_description", "background", "desc") and isinstance(item, str) and item.strip():
            yield item.strip().rstrip(".")
        elif key == "text" and isinstance(item, str):
            yield f'the text "{item}"'
        elif isinstance(item, dict):
            yield from _words(item)
        elif isinstance(item, list):
            for part in item:
                yield from _words(part) if isinstance(part, dict) else ()
