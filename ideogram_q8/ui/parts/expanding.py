"""The Expand button of the Caption tab: the plain text on the left becomes a structured caption, written by the text encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ideogram_q8.runtime.text.expansion import MAX_TOKENS, Expansion, Idea
from ideogram_q8.ui.engine import draft
from ideogram_q8.ui.engine.expander import Expander
from ideogram_q8.ui.engine.seeds import read_seed
from ideogram_q8.ui.parts import fragments
from ideogram_q8.ui.parts.controls import ON_DEVICE, PRIVATE, Controls, afterwards, build_controls
from ideogram_q8.ui.parts.form import Desk, Visitor, failed, friendly_errors, visitor_of

_SECONDS_BETWEEN = 0.1
"""Of two messages to the page."""
_DESCRIBE = """
setTimeout(() => {
  const button = document.getElementById('q8-expand');
  if (!button) return;
  button.setAttribute('aria-describedby', 'q8-expand-status');
  if (button.disabled) button.title = element.innerText;
});
"""


@dataclass(frozen=True)
class _Parts:
    controls: Controls
    status: gr.HTML


def build_expander(desk: Desk, expander: Expander) -> list[Any]:
    """Adds the row to the current Blocks context; returns the events after which the caption's text may be another one."""
    form = desk.form
    controls = build_controls("Expand into a structured caption", "expand", desk.jobs, usable=expander.problem is None)
    status = gr.HTML(_idle(expander), js_on_load=_DESCRIBE, elem_id="q8-expand-status", elem_classes="q8-flat", padding=False)
    asked, written = gr.State(""), gr.Textbox("", label="caption", visible=False)
    parts = _Parts(controls, status)

    def expand_caption(
        caption: str, width: float, height: float, seed: str | None, request: gr.Request
    ) -> Iterator[dict[object, object]]:
        """Write a structured caption of a plain one. The last message holds it, and what happened as HTML."""
        with friendly_errors():
            idea = Idea(caption, int(width), int(height), read_seed(seed))
        yield {asked: caption, written: ""}
        for found in _expand(expander, parts, visitor_of(None, request), idea):
            yield {written if key == "caption" else status: value for key, value in found.items()}

    def put(now: str, before: str, found: str) -> list[Any]:
        caption, told = _arrived(now, before, found)
        return [gr.skip() if caption is None else caption, gr.skip() if told is None else told]

    run = controls.connect(status).then(
        expand_caption,
        [form.caption, form.width, form.height, form.seed],
        [written, status, asked],
        api_name="expand_caption",
        **ON_DEVICE,
    )
    ended = afterwards(run, controls.released, None, [controls.go, controls.cancel])
    return [*ended, run.then(put, [form.caption, asked, written], [form.caption, status], **PRIVATE)]


def _idle(expander: Expander) -> str:
    if expander.problem is not None:
        return fragments.panel("idle", "Expanding is not available", notes=[expander.problem])
    note = "The text encoder writes background and elements for the plain text on the left; the seed chooses its words."
    return fragments.panel("idle", "From plain text", notes=[note])


def _expand(expander: Expander, parts: _Parts, visitor: Visitor, idea: Idea) -> Iterator[dict[str, str]]:
    """Updates of "caption" and "status"."""
    with friendly_errors(), parts.controls.jobs.running(visitor.session, parts.controls.name, visitor.counted) as job:
        try:
            told = 0.0
            with closing(expander.expand(idea)) as events:
                for event in events:
                    if isinstance(event, Expansion):
                        yield _written(event)
                        return
                    job.note = f"after {event} tokens"
                    if job.cancelled:
                        yield {
                            "status": fragments.panel("cancelled", f"Cancelled {job.note}", notes=["Your text stays as it is."])
                        }
                        return
                    if time.monotonic() - told > _SECONDS_BETWEEN:
                        told = time.monotonic()
                        yield {"status": _progress(event)}
        except Exception as error:
            yield {"status": failed(error)}
            raise


def _arrived(now: str, before: str, found: str) -> tuple[str | None, str | None]:
    """The caption's text and the status after `found` was written (empty: nothing was) of the text `before`; None: as they are."""
    if found and now != before:
        return None, fragments.panel("done", "Written, but you changed your text meanwhile, so it stays", notes=[found])
    return found or None, None


def _progress(tokens: int) -> str:
    if not tokens:
        return fragments.panel("running", "Reading the text encoder", fraction=0.0, notes=["and the text"])
    return fragments.panel("running", "Writing the caption", f"{tokens} tokens", fraction=tokens / MAX_TOKENS)


def _written(found: Expansion) -> dict[str, str]:
    shown, _ = draft.read(found.caption)
    notes = [f"mended: {what}" for what in found.mended] or ["Change what you like; Expand again needs plain text."]
    return {"caption": draft.write(shown), "status": fragments.panel("done", "Written", f"{found.tokens} tokens", notes=notes)}
