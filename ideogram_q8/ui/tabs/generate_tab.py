"""The Generate tab: one variant, one picture or several seeds of it, live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ideogram_q8.ui.engine.events import Painting, Picture, Work
from ideogram_q8.ui.engine.jobs import follow
from ideogram_q8.ui.engine.seeds import consecutive, exact, roll_seed
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import fragments
from ideogram_q8.ui.parts.controls import ON_DEVICE, PRIVATE, Controls, afterwards, build_controls
from ideogram_q8.ui.parts.form import (
    Desk,
    Fields,
    Painter,
    Visitor,
    failed,
    friendly_errors,
    full_choices,
    read_request,
    variant_cards,
    visitor_of,
)

if TYPE_CHECKING:
    pass

MAX_BATCH = 8
_LOOK_SECONDS = 2.0
"""How often the cards are told anew while something is downloaded."""
_IDLE = fragments.panel(
    "idle",
    "Ready",
    notes=[
        "Pick a variant and press Generate. The first picture with a variant takes longer: it is downloaded or built, and loaded."
    ],
)


@dataclass(frozen=True)
class _Parts:
    variant: gr.Radio
    controls: Controls
    picture: gr.Image
    strip: gr.Gallery
    status: gr.HTML
    download: gr.DownloadButton
    metadata: gr.JSON
    count: gr.Slider
    clock: gr.Timer
    """Ticks while this page waits for a variant that is to be downloaded."""
    saved: gr.State
    """Path of the finished picture; None while there is none."""


def build_generate_tab(desk: Desk, chosen: str) -> Painter:
    """Adds the tab's components and events to the current Blocks context; the variant `chosen` is picked at the start."""
    parts, studio, form = _layout(desk, chosen), desk.studio, desk.form

    def generate(
        variant: str,
        caption: str,
        preset: str,
        width: float,
        height: float,
        seed: str | None,
        steps: float,
        guidance: float,
        count: float,
        owner: str | None,
        request: gr.Request,
    ) -> Iterator[dict[object, object]]:
        """Paint pictures with consecutive seeds. The last message holds the last one's file, a summary as HTML and its metadata."""
        fields = caption, preset, width, height, seed, steps, guidance
        yield from _generate(studio, parts, visitor_of(owner, request), variant, fields, int(count))

    def end(saved: str | None, keep: bool, request: gr.Request) -> dict[object, object]:
        return {
            **parts.controls.released(request),
            parts.clock: gr.Timer(active=False),
            parts.download: gr.update(value=saved, interactive=saved is not None),
            form.seed: gr.skip() if keep else roll_seed(),
        }

    _keep_cards(desk, parts)
    start = parts.controls.connect(parts.status, parts.download)
    run = start.then(
        generate,
        [parts.variant, *form.inputs, parts.count, desk.owner],
        [parts.picture, parts.status, parts.metadata, parts.saved, parts.strip],
        api_name="generate",
        **ON_DEVICE,
    )
    changed: list[Any] = [parts.controls.go, parts.controls.cancel, parts.clock, parts.download, form.seed]
    return Painter(parts.variant, afterwards(run, end, [parts.saved, form.keep_seed], changed))


def _keep_cards(desk: Desk, parts: _Parts) -> None:
    """They say how far a download is."""
    studio, size = desk.studio, [desk.form.width, desk.form.height]

    def start(variant: str) -> gr.Timer:
        return gr.Timer(active=studio.stock.is_to_download(variant))

    def look(width: float, height: float) -> Any:
        return gr.update(choices=full_choices(studio, width, height)) if studio.stock.downloading else gr.skip()

    parts.controls.go.click(start, parts.variant, parts.clock, **PRIVATE)
    parts.clock.tick(look, size, parts.variant, **PRIVATE)


def _layout(desk: Desk, chosen: str) -> _Parts:
    variant = variant_cards(desk.studio.variants(), chosen, "Variant", "q8-variant")
    with gr.Row(equal_height=True):
        with gr.Column(scale=3, min_width=260, elem_classes="q8-actions"):
            controls = build_controls("Generate", "generate", desk.jobs)
        count = gr.Slider(1, MAX_BATCH, 1, step=1, label="Pictures", min_width=200, scale=1, buttons=[], elem_id="q8-count")
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
            strip = gr.Gallery(
                label="This batch",
                columns=4,
                height=150,
                format="png",
                visible=False,
                interactive=False,
                buttons=["fullscreen"],
                elem_id="q8-strip",
            )
        with gr.Column(scale=9, min_width=300):
            status = gr.HTML(_IDLE, elem_id="q8-generate-status", elem_classes="q8-flat", padding=False)
            download = gr.DownloadButton("Download PNG", interactive=False, elem_id="q8-download")
            with gr.Accordion("What the PNG says about itself", open=False):
                metadata = gr.JSON(show_label=False, elem_id="q8-metadata")
    clock = gr.Timer(_LOOK_SECONDS, active=False)
    return _Parts(variant, controls, picture, strip, status, download, metadata, count, clock, gr.State())


def _generate(
    studio: Studio, parts: _Parts, visitor: Visitor, variant: str, fields: Fields, count: int
) -> Iterator[dict[object, object]]:
    titles = {v.name: v.title for v in studio.variants()}
    label = titles.get(variant, variant)
    with friendly_errors(), parts.controls.jobs.running(visitor.session, parts.controls.name, visitor.counted) as job:
        try:
            first = read_request(*fields)
            yield {parts.metadata: None, parts.saved: None, parts.strip: gr.update(value=[], visible=count > 1)}
            done: list[Picture] = []
            for i, request in enumerate(consecutive(first, count), 1):
                name = label if count == 1 else f"{label} · {i} of {count}"
                events = studio.paint(variant, request, owner=visitor.owner)
                picture = yield from follow(events, job, partial(_show, parts, name))
                if picture is None:
                    yield {parts.status: fragments.cancelled(job.note, len(done))}
                    return
                done.append(picture)
                yield _result(parts, done, label)
        except Exception as error:
            yield {parts.status: failed(error)}
            raise


def _show(parts: _Parts, label: str, event: Work) -> tuple[str, dict[object, object]]:
    """How far a picture is, in words and on the page."""
    update: dict[object, object] = {parts.status: fragments.progress(event, label)}
    if isinstance(event, Painting) and event.preview is not None:
        update[parts.picture] = event.preview
    return fragments.where(event), update


def _result(parts: _Parts, done: list[Picture], label: str) -> dict[object, object]:
    picture = done[-1]
    return {
        parts.picture: str(picture.path),
        parts.strip: [(str(made.path), f"seed {made.request.seed}") for made in done],
        parts.status: fragments.finished(picture, label),
        parts.metadata: exact(picture.metadata),
        parts.saved: str(picture.path),
    }
