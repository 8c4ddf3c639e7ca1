"""Captions that the text encoder writes: diffusers' own words, in any format of its weights; and what is refused."""

from __future__ import annotations

import gc
import json
import sys
import types
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import Ideogram4Pipeline
from diffusers.pipelines.ideogram4 import prompt_enhancer
from huggingface_hub import constants
from safetensors.torch import save_file

from ideogram_q8.__main__ import main
from ideogram_q8.builds.opening import open_text_encoder_build
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.captions import canonical
from ideogram_q8.errors import CaptionError, RequestError, SourceError
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.loading.text_encoder import TextEncoder, load_text_encoder
from ideogram_q8.runtime.text import expansion
from ideogram_q8.runtime.text.expansion import Idea, expand, find_head, graft, look_for_head, open_head, read
from ideogram_q8.sources import open_source, open_text_encoder
from tests.heads import SHORT_MESSAGE, random_head, spelling_head
from tests.stock import stock_pipeline

pytestmark = pytest.mark.slow

IDEA = Idea("a red star", 64, 64, 5)
CAPTION = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"blue","elements":[]}}'


@pytest.fixture(scope="module", autouse=True)
def _short_message():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_enhancer, "CAPTION_SYSTEM_MESSAGE", SHORT_MESSAGE)
        yield


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(open_text_encoder("pocket"))


@pytest.fixture(scope="module")
def babbling(tmp_path_factory) -> Path:
    return random_head(tmp_path_factory.mktemp("heads") / "random")


@pytest.fixture(scope="module")
def spelling(tmp_path_factory, encoder: TextEncoder) -> Path:
    return spelling_head(tmp_path_factory.mktemp("heads") / "spelling", encoder.model, encoder.tokenizer, IDEA.text, CAPTION)


@pytest.fixture(scope="module")
def stock(babbling: Path) -> Ideogram4Pipeline:
    """diffusers' pipeline with the same head; accelerate, of which it uses a context for building modules, need not be installed."""
    pipeline = stock_pipeline(WEIGHTS)
    pipeline.prompt_enhancer_head = prompt_enhancer.Ideogram4PromptEnhancerHead.from_pretrained(babbling)
    return pipeline


def words_of_diffusers(stock: Ideogram4Pipeline, idea: Idea, tokens: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "accelerate", types.SimpleNamespace(init_empty_weights=lambda: torch.device("meta")))
    generator = torch.Generator().manual_seed(idea.seed)
    (text,) = stock.upsample_prompt(
        idea.text, idea.height, idea.width, max_new_tokens=tokens, generator=generator, device=torch.device("cpu")
    )
    return text


def our_words(encoder: TextEncoder, head: Path, idea: Idea, tokens: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What comes out before it is read as a caption."""
    found: list[str] = []
    monkeypatch.setattr(expansion, "read", lambda text, count, cut_off: (found.append(text) or "", []))
    expand(encoder.model, encoder.tokenizer, open_head(head), idea, max_tokens=tokens)
    return found[0]


# ---- diffusers' own words ----


@pytest.mark.parametrize("idea", [IDEA, Idea("two blue moons", 128, 64, 6)], ids=str)
def test_they_are_those_of_the_stock_pipeline(encoder, stock, babbling, monkeypatch, idea: Idea) -> None:
    expected = words_of_diffusers(stock, idea, 8, monkeypatch)
    assert len(expected) > 8
    assert our_words(encoder, babbling, idea, 8, monkeypatch) == expected


def test_the_seed_chooses_the_words(encoder, babbling, monkeypatch) -> None:
    five, again, six = (our_words(encoder, babbling, replace(IDEA, seed=seed), 4, monkeypatch) for seed in (5, 5, 6))
    assert five == again != six


@pytest.fixture(scope="module", params=["int8", "q8_0"])
def built(request, tmp_path_factory) -> TextEncoder:
    """The pocket's text encoder in another format."""
    source, place = open_text_encoder("pocket"), tmp_path_factory.mktemp("built") / request.param
    quantize(source, choose(request.param, source.config), place)
    build = open_text_encoder_build(place, open_source("pocket").config, WEIGHTS)
    return load_text_encoder(source, build=build)


def test_other_formats_write_what_diffusers_writes_with_them(built, stock, babbling, monkeypatch) -> None:
    plain = stock.text_encoder.language_model
    monkeypatch.setattr(stock, "_prompt_enhancer", None)
    try:
        stock.text_encoder.language_model = built.model
        expected = words_of_diffusers(stock, IDEA, 8, monkeypatch)
    finally:
        stock.text_encoder.language_model = plain
    assert our_words(built, babbling, IDEA, 8, monkeypatch) == expected
    assert any(type(module).__name__ in ("Int8Linear", "GgmlLinear") for module in built.model.modules())


def test_a_caption_that_is_written_is_the_caption(encoder, spelling) -> None:
    seen: list[int] = []
    found = expand(encoder.model, encoder.tokenizer, open_head(spelling), IDEA, seen.append)
    assert found.caption == canonical(CAPTION) and found.mended == ()
    assert found.tokens == len(seen) == 13 and seen == list(range(1, 14))  # twelve words and the end


def test_cancelling_stops_at_the_token(encoder, babbling) -> None:
    class Enough(Exception):
        pass

    def report(tokens: int) -> None:
        if tokens == 5:
            raise Enough

    runs: list[object] = []
    hook = encoder.model.register_forward_hook(lambda *_: runs.append(None))
    state = torch.random.get_rng_state()
    with pytest.raises(Enough):
        expand(encoder.model, encoder.tokenizer, open_head(babbling), IDEA, report)
    hook.remove()
    assert len(runs) == 5
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_holds_the_encoder_afterwards(babbling) -> None:
    encoder = load_text_encoder(open_text_encoder("pocket"))
    gone = weakref.ref(encoder.model)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(CaptionError):
            expand(encoder.model, encoder.tokenizer, open_head(babbling), IDEA, max_tokens=2)
        del encoder
        assert gone() is None
    finally:
        gc.enable()


# ---- what is no caption ----


def test_babble_leaves_the_text_as_it_is(encoder, babbling) -> None:
    message = (
        r"the expansion is no caption \(cut off after 8 tokens: caption is .*\); your text stays as it is: try another seed"
    )
    with pytest.raises(CaptionError, match=message):
        expand(encoder.model, encoder.tokenizer, open_head(babbling), IDEA, max_tokens=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A red star on blue.", "is not valid JSON at line 1"),
        ("[1]", r"caption is a list of 1|caption is \[1\]"),
        ('{"high_level_description":3}', "high_level_description: got 3, expected a string"),
        ("{}", "it has no description and no elements"),
        ("[" * 20_000, "nested too deeply"),
        ("9" * 100_001, "has 100001 characters"),
    ],
)
def test_what_cannot_be_mended_is_named(text: str, message: str) -> None:
    with pytest.raises(CaptionError, match=message):
        read(text, 40, cut_off=False)


def test_what_can_be_mended_is() -> None:
    text = '{"compositional_deconstruction":{"elements":[{"desc":"a star"}]},"high_level_description":"x","mood":"blue"}'
    found, mended = read(text, 9, cut_off=False)
    assert json.loads(found) == {
        "high_level_description": "x",
        "compositional_deconstruction": {"background": "", "elements": [{"type": "obj", "desc": "a star"}]},
    }
    assert "caption: left out mood, which was 'blue'" in mended


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "nothing to expand"),
        (CAPTION, "structured already"),
        (f"```json\n{CAPTION}\n```", "structured already"),
        ("x" * 4001, "has 4001 characters"),
    ],
)
def test_what_is_no_idea_is_refused_before_anything_is_loaded(encoder, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        expand(encoder.model, encoder.tokenizer, None, Idea(text, 64, 64, 0))  # type: ignore[arg-type]


# ---- finding the head ----


def test_it_is_found_beside_the_checkpoint_or_where_it_is_named(tmp_path: Path, babbling: Path) -> None:
    assert find_head(WEIGHTS, str(babbling)).folder == babbling
    (tmp_path / "text_encoder").symlink_to(WEIGHTS / "text_encoder")
    random_head(tmp_path / "prompt_enhancer_head")
    assert find_head(tmp_path).folder == tmp_path / "prompt_enhancer_head"


def test_the_published_one_is_found_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, babbling: Path) -> None:
    values = json.loads((WEIGHTS / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    config = TextEncoderConfig.from_json(values)
    monkeypatch.setattr(expansion, "_PUBLISHED", (config.vocab_size, config.hidden_size))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SourceError, match="get it with `hf download diffusers/qwen3-vl-8b-instruct-lm-head`, or name a"):
        find_head(WEIGHTS)
    cache, commit = tmp_path / "models--diffusers--qwen3-vl-8b-instruct-lm-head", "0" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit, encoding="ascii")
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / commit).symlink_to(babbling)
    assert find_head(WEIGHTS).folder == cache / "snapshots" / commit


def test_why_there_is_none_is_said_in_words(tmp_path: Path) -> None:
    reason = look_for_head(WEIGHTS)
    assert isinstance(reason, str) and reason.startswith("the checkpoint has no prompt_enhancer_head, and diffusers/qwen3-vl")
    with pytest.raises(SourceError, match="cannot read"):
        look_for_head(WEIGHTS, str(tmp_path / "no" / "such" / "folder" / "at" / "all"))


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"_class_name": "Linear"}, {}, "is not of an Ideogram4PromptEnhancerHead"),
        ([], {}, "is not of an Ideogram4PromptEnhancerHead"),
        ({}, {}, "has no tensors; expected lm_head.weight in F32, F16 or BF16"),
        (
            {},
            {"lm_head.weight": torch.zeros(3, 64)},
            r"has lm_head.weight F32 \[3, 64\]; expected lm_head.weight .*\[1529, 64\]",
        ),
        ({}, {"lm_head.weight": torch.zeros(1529, 64, dtype=torch.int8)}, r"lm_head.weight I8 \[1529, 64\]; expected"),
        ({}, {"head": torch.zeros(1529, 64)}, r"has head F32 \[1529, 64\]; expected lm_head.weight"),
        (
            {"hidden_size": 32},
            {"lm_head.weight": torch.zeros(1529, 32)},
            "of 1529 tokens and width 32; this model's has 1529 and 64",
        ),
    ],
)
def test_what_is_no_head_of_this_encoder_is_refused(tmp_path: Path, config, tensors, message: str) -> None:
    if isinstance(config, dict):
        config = {"_class_name": "Ideogram4PromptEnhancerHead", "vocab_size": 1529, "hidden_size": 64} | config
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tensors:
        save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(SourceError, match=message):
        find_head(WEIGHTS, str(tmp_path))


# ---- the command ----


def test_generate_paints_the_expanded_caption(tmp_path: Path, capsys, spelling: Path) -> None:
    paint = ["generate", "pocket", "--caption", IDEA.text, "--preset", "custom-2-g2", "--size", "64x64", "--seed", "5"]
    paint += ["--out", str(tmp_path / "x.png")]
    assert main([*paint, "--expand", "--prompt-expander", str(spelling)]) == 0
    assert canonical(CAPTION) in capsys.readouterr().out.splitlines()
    assert read_metadata(tmp_path / "x.png")["caption"] == canonical(CAPTION)
    for wrong, message in (
        (["--expand"], "the checkpoint has no prompt_enhancer_head"),
        (["--prompt-expander", str(spelling)], "--prompt-expander is for --expand"),
        (["--expand", "--caption", CAPTION], "structured already"),
    ):
        assert main([*paint, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_the_graft_ends_with_the_tokenizers_last_token_where_the_config_names_none(encoder) -> None:
    head = types.SimpleNamespace(lm_head=torch.nn.Linear(64, 1529, bias=False))
    model = graft(encoder.model, encoder.tokenizer, head)  # type: ignore[arg-type]
    assert model.generation_config.eos_token_id == encoder.tokenizer.eos_token_id == 2
    assert model.model.language_model is encoder.model
