"""A plain idea -> a structured caption, written by the text encoder itself.

The text encoder is Qwen3-VL-8B without its last layer. With that layer back (1.2 GB; diffusers' `Ideogram4PromptEnhancerHead`, weights
at huggingface.co/diffusers/qwen3-vl-8b-instruct-lm-head) it is a language model again, whatever format its other weights are in. What it
is told, and how it is sampled, is diffusers' (pipelines/ideogram4/prompt_enhancer.py, 0.42.1); so is the grammar that makes its answer
a caption for certain, where outlines is installed. Without outlines the answer is whatever it is. Either way it is parsed, mended and
linted like what a person types.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8 import captions as caption
from ideogram_q8.captions.repair import repair, without_unknown
from ideogram_q8.captions.unwrap import looks_structured
from ideogram_q8.errors import CaptionError, RequestError, SourceError
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.formats.text import read_json
from ideogram_q8.hub import client as hub
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.sources import dimensions
from ideogram_q8.sources.places import read_headers

if TYPE_CHECKING:  # what is imported in functions is not needed to see whether a head is there
    import torch
    from diffusers import Ideogram4PromptEnhancerHead
    from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration, Qwen3VLTextModel

FOLDER, REPOSITORY = "prompt_enhancer_head", "diffusers/qwen3-vl-8b-instruct-lm-head"
MAX_TOKENS = 1024
"""Of a caption; diffusers' default."""
MAX_IDEA = 4000
"""Characters."""
_PUBLISHED = 151_936, 4096
"""Vocabulary and width of Qwen3-VL-8B, which the published head is for."""
_WEIGHT = "lm_head.weight"
_WANTED = ("config.json", "*.safetensors", "README.md", "LICENSE*")
_grammars: dict[str, object] = {}
"""By the tokenizer's folder; one is kept. It takes long to make and holds no weights."""
_log = logging.getLogger(__name__)


# ---- the head ----


@dataclass(frozen=True)
class Head:
    """A language model's last layer in its files: `weight` has [vocab_size, hidden_size]."""

    folder: Path
    weight: StoredTensor

    def check(self, encoder: tuple[int, int]) -> None:
        """Raises SourceError: a text encoder has another vocabulary or width than this."""
        if self.weight.shape != encoder:
            own = f"a text encoder of {self.weight.shape[0]} tokens and width {self.weight.shape[1]}"
            raise SourceError(f"{self.folder} is for {own}; this model's has {encoder[0]} and {encoder[1]}")

    def load(self, encoder: Qwen3VLTextModel) -> Ideogram4PromptEnhancerHead:
        """The module, on the device and in the dtype of an encoder. Raises SourceError: it is for another one, or cannot be read."""
        import torch
        from diffusers import Ideogram4PromptEnhancerHead

        self.check((encoder.config.vocab_size, encoder.config.hidden_size))
        with torch.device("meta"):
            head = Ideogram4PromptEnhancerHead(hidden_size=self.weight.shape[1], vocab_size=self.weight.shape[0])
        norm = encoder.norm.weight
        value = self.weight.read().view(self.weight.shape).to(norm.device, norm.dtype)
        head.load_state_dict({_WEIGHT: value}, assign=True)
        return head.eval().requires_grad_(False)


def open_head(folder: Path) -> Head:
    """The head in a folder as diffusers saves it. Reads headers only.

    Raises:
        SourceError: there is none, or it is not what it claims to be.
    """
    values = read_json(folder / "config.json")
    if not isinstance(values, dict) or values.get("_class_name") != "Ideogram4PromptEnhancerHead":
        raise SourceError(f"{folder / 'config.json'} is not of an Ideogram4PromptEnhancerHead; expected what {REPOSITORY} has")
    tensors = read_headers(tuple(sorted(folder.glob("*.safetensors")))).tensors
    weight = tensors.get(_WEIGHT)
    expected = values.get("vocab_size"), values.get("hidden_size")
    if set(tensors) != {_WEIGHT} or weight is None or weight.shape != expected or weight.dtype not in ("F32", "F16", "BF16"):
        found = ", ".join(f"{name} {each.dtype} {list(each.shape)}" for name, each in list(tensors.items())[:3])
        raise SourceError(
            f"{folder} has {found or 'no tensors'}; expected {_WEIGHT} in F32, F16 or BF16 {list(expected)}: download it again"
        )
    return Head(folder, weight)


def find_head(folder: Path, named: str | None = None) -> Head:
    """The head that was named, or else that of a checkpoint, or else the published one where it is in the Hub's cache.

    Args:
        folder: of the checkpoint.
        named: a folder, or a Hub id, which is downloaded.

    Raises:
        SourceError: there is none for this checkpoint's text encoder; the message says how to get one.
    """
    config = dimensions.from_config(folder / "text_encoder" / "config.json", TextEncoderConfig)
    encoder = config.vocab_size, config.hidden_size
    head = open_head(_place(folder, named, encoder == _PUBLISHED))
    head.check(encoder)
    return head


def _place(folder: Path, named: str | None, is_published: bool) -> Path:
    if named is not None:
        path, place = Path(named).expanduser(), hub.parse(named)
        return path if path.is_dir() or place is None else hub.download(place, _WANTED)
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    if not is_published:
        raise SourceError(
            f"the checkpoint has no {FOLDER}, and {REPOSITORY} is for Ideogram 4's text encoder, not for this one"
        )
    cached = hub.cached(hub.Place(REPOSITORY))
    if cached is None:
        raise SourceError(
            f"the checkpoint has no {FOLDER}, nor has the Hub's cache {REPOSITORY}: get it with `hf download {REPOSITORY}`, or name a "
            "folder with --prompt-expander"
        )
    return cached


def look_for_head(folder: Path, named: str | None = None) -> Head | str:
    """`find_head`, or in words why there is none. Raises SourceError: the one that was named is not what it should be."""
    try:
        return find_head(folder, named)
    except SourceError as error:
        if named is not None:
            raise
        return str(error)


# ---- writing a caption ----


@dataclass(frozen=True)
class Idea:
    """What to write a caption of: plain text, the picture's size in pixels, and a seed of which the words depend."""

    text: str
    width: int
    height: int
    seed: int

    def check(self) -> None:
        """Raises RequestError: there is nothing to expand."""
        text = self.text.strip()
        if not text:
            raise RequestError("there is nothing to expand; say in a few words what the picture shows")
        if looks_structured(text):
            raise RequestError("the caption is structured already; expand plain text")
        if len(text) > MAX_IDEA:
            raise RequestError(f"the text has {len(text)} characters; expected at most {MAX_IDEA} to expand: shorten it")


@dataclass(frozen=True)
class Expansion:
    """A sound caption as canonical text, what was mended in it, and how many tokens were written."""

    caption: str
    mended: tuple[str, ...]
    tokens: int


def expand(
    encoder: Qwen3VLTextModel,
    tokenizer: PreTrainedTokenizerBase,
    head: Head,
    idea: Idea,
    on_token: Callable[[int], None] = lambda _: None,
    max_tokens: int = MAX_TOKENS,
) -> Expansion:
    """Writes a structured caption of an idea. The same idea, seed and weights give the same words.

    Args:
        encoder: in any format, on one device, with nothing of it streamed.
        on_token: sees the number of tokens so far, and cancels by raising.
        max_tokens: where the answer is cut off.

    Raises:
        RequestError: there is nothing to expand.
        CaptionError: what came out is no caption.
        SourceError: the head is for another encoder.
    """
    import torch
    from diffusers.pipelines.ideogram4.prompt_enhancer import generate_captions

    idea.check()
    model, watch = graft(encoder, tokenizer, head.load(encoder)), _Watch(on_token)
    model.generate = functools.partial(model.generate, stopping_criteria=[watch])
    try:
        (text,) = generate_captions(
            model,
            tokenizer,
            _grammar(model, tokenizer),
            idea.text.strip(),
            idea.height,
            idea.width,
            max_new_tokens=max_tokens,
            generator=torch.Generator("cpu").manual_seed(idea.seed),
            device=encoder.norm.weight.device,
        )
    finally:
        del model.generate  # it holds the model, which would hold the encoder until the next garbage collection
    found, mended = read(text, watch.tokens, cut_off=watch.tokens >= max_tokens)
    return Expansion(found, tuple(mended), watch.tokens)


def graft(
    encoder: Qwen3VLTextModel, tokenizer: PreTrainedTokenizerBase, head: Ideogram4PromptEnhancerHead
) -> Qwen3VLForConditionalGeneration:
    """The language model that shares an encoder's weights.

    What `build_prompt_enhancer` of diffusers does with a whole `Qwen3VLModel` and accelerate; ours has no vision tower.
    """
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=encoder.config.to_dict()))
    model.model.visual = None
    model.model.language_model, model.lm_head = encoder, head.lm_head
    settings = model.generation_config
    settings.eos_token_id = tokenizer.eos_token_id if settings.eos_token_id is None else settings.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id
    return model.eval()


class _Watch:
    """A stopping criterion of transformers' `generate` that stops nothing: it counts the tokens, and its report may raise."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report, self.tokens = report, 0

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        self.tokens += 1
        self.report(self.tokens)
        return input_ids.new_zeros(len(input_ids)).bool()


def _grammar(model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> object:
    """What keeps the answer in the form of a caption; None without outlines."""
    from diffusers.pipelines.ideogram4.prompt_enhancer import build_caption_logits_processor
    from diffusers.utils import is_outlines_available

    if not is_outlines_available():
        _log.info("captions are expanded without a grammar: pip install outlines for captions that are sound for certain")
        return None
    key = str(tokenizer.name_or_path)
    if key not in _grammars:
        _grammars.clear()
        _grammars[key] = build_caption_logits_processor(model, tokenizer)
    return _grammars[key]


def read(text: str, tokens: int, *, cut_off: bool) -> tuple[str, list[str]]:
    """The canonical caption of what a language model wrote in `tokens` tokens, and what was mended.

    Raises:
        CaptionError: it is none, or it says nothing.
    """
    try:
        reading = caption.understand(text)
        if reading.mended is None:
            raise CaptionError(reading.left[0].message)
        value, done = repair(caption.parse(text if reading.is_sentence else reading.mended))
        value, gone = without_unknown(value)  # nobody's words but the model's
        errors = [issue for issue in caption.lint(value) if issue.severity == "error"]
        if errors:
            raise CaptionError(f"caption is not valid: {errors[0]}")
        if not (value.get("high_level_description") or value["compositional_deconstruction"]["elements"]):
            raise CaptionError("caption says nothing: it has no description and no elements")
    except CaptionError as error:
        fault = str(error).partition(";")[0]  # after it comes what to do for people who type
        why = f"cut off after {tokens} tokens: {fault}" if cut_off else fault
        remedy = "your text stays as it is: try another seed or other words"
        raise CaptionError(f"the expansion is no caption ({why}); {remedy}") from None
    return caption.canonical(value), list(map(str, [*reading.taken, *reading.done, *done, *gone]))
