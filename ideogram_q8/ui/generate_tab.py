"""The Generate tab: one variant, one picture, with previews of every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import gradio as gr

from ideogram_q8.ui import fragments
from ideogram_q8.ui.controls import ON_DEVICE, QUIET, Controls, build_controls
from ideogram_q8.ui.form import RequestForm, card_choices, friendly_errors, read_request, variant_cards
from ideogram_q8.ui.studio import Painting, Picture, Studio

_IDLE = fragments.panel(
    "idle",
    "Ready",
    notes=["Press Generate. The first picture with a variant takes a few seconds more: it is built and loaded."],
)


@dataclass(frozen=True)
class _Parts:
    variant: gr.Radio
    controls: Controls
    picture: gr.Image
    status: gr.HTML
    download: gr.DownloadButton
    metadata: gr.JSON
    saved: gr.State
    """Path of the finished picture; None while there is none."""


def build_generate_tab(studio: Studio, form: RequestForm, chosen: str) -> None:
    """Adds the tab's components and events to the current Blocks context.

    Args:
        chosen: name of the variant that is picked at the start.
    """
    parts = _layout(studio, chosen)

    def generate(
        variant: str, caption: str, preset: str, width: float, height: float, seed: float, request: gr.Request
    ) -> Iterator[dict[object, object]]:
        """Paint a picture. The last message holds its file, a summary as HTML and the metadata in the file."""
        yield from _generate(studio, parts, request.session_hash, variant, (caption, preset, width, height, seed))

    start = parts.controls.connect("generate", parts.download)
    run = start.then(
        generate,
        [parts.variant, *form.inputs],
        [parts.picture, parts.status, parts.metadata, parts.saved],
        api_name="generate",
        **ON_DEVICE,
    )
    run.then(
        lambda saved: parts.controls.released() | _after(parts, studio, saved),
        parts.saved,
        [parts.controls.go, parts.controls.cancel, parts.variant, parts.download],
        **QUIET,
        api_visibility="private",
    )


def _layout(studio: Studio, chosen: str) -> _Parts:
    variant = variant_cards(studio.variants(), chosen, "Variant", "q8-variant", columns=4)
    controls = build_controls("Generate", "q8-generate")
    with gr.Row(equal_height=False):
        with gr.Column(scale=11, min_width=320):
            picture = gr.Image(
                label="Picture",
                show_label=False,
                type="filepath",
                format="png",
                height=490,
                interactive=False,
                buttons=["fullscreen"],
                elem_id="q8-picture",
            )
        with gr.Column(scale=9, min_width=300):
            status = gr.HTML(_IDLE, elem_id="q8-generate-status", elem_classes="q8-flat", padding=False)
            download = gr.DownloadButton("Download PNG", interactive=False, elem_id="q8-download")
            with gr.Accordion("What the PNG says about itself", open=False):
                metadata = gr.JSON(show_label=False, elem_id="q8-metadata")
    return _Parts(variant, controls, picture, status, download, metadata, gr.State())


def _generate(
    studio: Studio, parts: _Parts, session: str | None, variant: str, fields: tuple[str, str, float, float, float]
) -> Iterator[dict[object, object]]:
    titles = {v.name: v.title for v in studio.variants()}
    label = titles.get(variant, variant)
    with friendly_errors(), parts.controls.jobs.running(session) as job:
        try:
            request = read_request(*fields)
            yield {parts.metadata: None, parts.saved: None}
            if job.cancelled:
                yield {parts.status: fragments.cancelled(job.note)}
                return
            with closing(studio.paint(variant, request)) as events:
                for event in events:
                    if isinstance(event, Picture):
                        yield _result(parts, event, label)
                        return
                    job.note = fragments.where(event)
                    if job.cancelled:
                        yield {parts.status: fragments.cancelled(job.note)}
                        return
                    update: dict[object, object] = {parts.status: fragments.progress(event, label)}
                    if isinstance(event, Painting):
                        update[parts.picture] = event.preview
                    yield update
        except Exception:
            yield {parts.status: fragments.panel("failed", "That did not work", notes=["The message says why."])}
            raise


def _result(parts: _Parts, picture: Picture, label: str) -> dict[object, object]:
    return {
        parts.picture: str(picture.path),
        parts.status: fragments.finished(picture, label),
        parts.metadata: picture.metadata,
        parts.saved: str(picture.path),
    }


def _after(parts: _Parts, studio: Studio, saved: str | None) -> dict[object, object]:
    """What changes when the work has ended, well or not."""
    return {
        parts.variant: gr.update(choices=card_choices(studio.variants())),
        parts.download: gr.update(value=saved, interactive=saved is not None),
    }
