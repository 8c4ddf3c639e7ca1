"""Captions written in the app: progress, cancelling, what is shown when there is none, and painting afterwards."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from diffusers.pipelines.ideogram4 import prompt_enhancer

from ideogram_q8.captions import canonical
from ideogram_q8.errors import SourceError
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.loading.text_encoder import load_text_encoder
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.runtime.text.expansion import Expansion, Idea
from ideogram_q8.sources import open_text_encoder
from ideogram_q8.ui.engine.events import Picture
from ideogram_q8.ui.engine.expander import Expander
from ideogram_q8.ui.engine.jobs import Jobs
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import expanding
from ideogram_q8.ui.parts.form import Visitor
from tests.heads import SHORT_MESSAGE, random_head, spelling_head

pytestmark = pytest.mark.slow

IDEA = Idea("a red star", 64, 64, 3)
CAPTION = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"blue","elements":[]}}'


@pytest.fixture(autouse=True)
def _short_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_enhancer, "CAPTION_SYSTEM_MESSAGE", SHORT_MESSAGE)


def expander(folder: Path, head: Path | None) -> Expander:
    named = None if head is None else str(head)
    return Expander(Studio("pocket", folder / "outputs", prompt_expander=named, preview_decoder=folder / "taef2.safetensors"))


def spelling(folder: Path) -> Path:
    encoder = load_text_encoder(open_text_encoder("pocket"))
    return spelling_head(folder / "head", encoder.model, encoder.tokenizer, IDEA.text, CAPTION)


def updates(found: Expander, jobs: Jobs, idea: Idea = IDEA) -> Any:
    parts = types.SimpleNamespace(controls=types.SimpleNamespace(jobs=jobs, name="expand"))
    return expanding._expand(found, parts, Visitor("me", "me", "me"), idea)  # type: ignore[arg-type]


def test_a_caption_arrives_and_pictures_are_painted_in_turn(tmp_path: Path) -> None:
    found = expander(tmp_path, spelling(tmp_path))
    assert found.problem is None
    *tokens, last = found.expand(IDEA)
    assert tokens == list(range(14)) and last == Expansion(canonical(CAPTION), (), 13)
    request = Request(canonical(CAPTION), 3, "custom-2-g2", 64, 64)
    *_, picture = found.studio.paint("fp8", request)
    assert isinstance(picture, Picture)
    assert list(found.expand(IDEA))[-1] == last  # by the loaded model's encoder
    assert found.studio.loaded_variant == "fp8" and found.studio._model is not None
    assert "taef2.safetensors decodes latents of 32 channels" in found.studio._model.preview.said
    *shown, final = updates(found, Jobs())
    assert "Reading the text encoder" in shown[0]["status"] and all("caption" not in each for each in shown)
    assert '"background": "blue"' in final["caption"] and "Written" in final["status"] and "13 tokens" in final["status"]


def test_cancelling_and_babble_leave_the_text_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "_SECONDS_BETWEEN", 0.0)
    found, jobs = expander(tmp_path, random_head(tmp_path / "head")), Jobs()
    told = []
    for update in updates(found, jobs):
        told.append(update["status"])
        if "2 tokens" in update["status"]:
            jobs.cancel("me", "expand")
        assert "caption" not in update
    assert "Cancelled after 3 tokens" in told[-1]
    monkeypatch.setattr("ideogram_q8.ui.engine.expander.expand", lambda *arguments: _expand_little(*arguments))
    told = []
    with pytest.raises(gr.Error, match="the expansion is no caption"):
        told += [update["status"] for update in updates(found, jobs)]


def _expand_little(*arguments: Any) -> Expansion:
    from ideogram_q8.runtime.text.expansion import expand

    return expand(*arguments, max_tokens=4)


def test_a_models_own_encoder_is_taken_only_where_all_of_it_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("pocket")
    with monkeypatch.context() as patch:
        patch.setattr(usage, "available_bytes", lambda _: 1000)
        assert model.whole_text_encoder() is None
    encoder = model.whole_text_encoder()
    assert encoder is not None
    monkeypatch.setattr(usage, "available_bytes", lambda _: 1000)
    assert model.whole_text_encoder() is encoder  # is there already
    model.plan = budget.plan_named("encoder", "cuda")
    assert model.whole_text_encoder() is None


def test_closing_the_studio_ends_the_work(tmp_path: Path) -> None:
    found = expander(tmp_path, random_head(tmp_path / "head"))
    events = found.expand(IDEA)
    assert next(events) == 0
    found.studio.close()
    assert not any(isinstance(event, Expansion) for event in events)


def test_without_a_head_the_reason_is_said(tmp_path: Path) -> None:
    found = expander(tmp_path, None)
    assert found.problem is not None and "the checkpoint has no prompt_enhancer_head" in found.problem
    with pytest.raises(SourceError, match="the checkpoint has no prompt_enhancer_head"):
        next(found.expand(IDEA))
    assert "Expanding is not available" in expanding._idle(found)
    with pytest.raises(SourceError, match="cannot read"):
        expander(tmp_path, tmp_path / "nothing")


def test_what_was_changed_meanwhile_stays():
    assert expanding._arrived("a red star", "a red star", CAPTION) == (CAPTION, None)
    assert expanding._arrived("a red star", "a red star", "") == (None, None)
    text, told = expanding._arrived("a blue star", "a red star", CAPTION)
    assert text is None and told is not None and "high_level_description" in told
