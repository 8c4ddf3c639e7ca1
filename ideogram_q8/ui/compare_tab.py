"""The Compare tab: the same request painted by two variants, laid over each other, with what each of them took."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from ideogram_q8.evaluation.metrics import psnr, ssim
from ideogram_q8.generation import Request
from ideogram_q8.ui import fragments
from ideogram_q8.ui.controls import ON_DEVICE, QUIET, Controls, build_controls
from ideogram_q8.ui.form import RequestForm, card_choices, friendly_errors, read_request, variant_cards
from ideogram_q8.ui.jobs import Job
from ideogram_q8.ui.studio import Painting, Picture, Studio

_IDLE = fragments.panel(
    "idle", "Ready", notes=["Both variants paint the same caption from the same noise; only their weights differ."]
)


@dataclass(frozen=True)
class _Parts:
    first: gr.Radio
    second: gr.Radio
    controls: Controls
    sides: gr.HTML
    slider: gr.ImageSlider
    status: gr.HTML
    table: gr.HTML
    numbers: gr.JSON


def build_compare_tab(studio: Studio, form: RequestForm) -> None:
    """Adds the tab's components and events to the current Blocks context."""
    parts = _layout(studio)

    def compare(
        a: str, b: str, caption: str, preset: str, width: float, height: float, seed: float, request: gr.Request
    ) -> Iterator[dict[object, object]]:
        """Paint one request with two variants. The last message holds both files, HTML for people, and the numbers."""
        yield from _compare(studio, parts, request.session_hash, (a, b), (caption, preset, width, height, seed))

    start = parts.controls.connect("compare")
    run = start.then(
        compare,
        [parts.first, parts.second, *form.inputs],
        [parts.slider, parts.sides, parts.status, parts.table, parts.numbers],
        api_name="compare",
        **ON_DEVICE,
    )
    run.then(
        lambda: parts.controls.released() | _fresh_cards(parts, studio),
        None,
        [parts.controls.go, parts.controls.cancel, parts.first, parts.second],
        **QUIET,
        api_visibility="private",
    )


def _layout(studio: Studio) -> _Parts:
    known = studio.variants()
    with gr.Row():
        first = variant_cards(known, "fp8", "A · left", "q8-first", columns=2)
        second = variant_cards(known, "q4_k", "B · right", "q8-second", columns=2)
    controls = build_controls("Compare", "q8-compare")
    with gr.Row(equal_height=False):
        with gr.Column(scale=11, min_width=320):
            sides = gr.HTML(fragments.sides("", ""), elem_classes="q8-flat", padding=False)
            slider = gr.ImageSlider(
                label="A and B",
                show_label=False,
                type="filepath",
                format="png",
                height=490,
                max_height=490,
                interactive=False,
                buttons=["fullscreen"],
                elem_id="q8-slider",
            )
        with gr.Column(scale=9, min_width=300):
            status = gr.HTML(_IDLE, elem_id="q8-compare-status", elem_classes="q8-flat", padding=False)
            table = gr.HTML("", elem_id="q8-table", elem_classes="q8-flat", padding=False)
    numbers = gr.JSON(visible=False)
    return _Parts(first, second, controls, sides, slider, status, table, numbers)


def _compare(
    studio: Studio,
    parts: _Parts,
    session: str | None,
    names: tuple[str, str],
    fields: tuple[str, str, float, float, float],
) -> Iterator[dict[object, object]]:
    titles = {variant.name: variant.title for variant in studio.variants()}
    labels = tuple(titles.get(name, name) for name in names)
    with friendly_errors(), parts.controls.jobs.running(session) as job:
        try:
            request = read_request(*fields)
            yield {parts.sides: fragments.sides(labels[0], labels[1]), parts.table: ""}
            pictures: list[Picture] = []
            for name, label in zip(names, labels, strict=True):
                picture = yield from _paint(studio, parts, job, name, label, request, pictures)
                if picture is None:
                    yield {parts.status: fragments.cancelled(job.note)}
                    return
                pictures.append(picture)
            yield _result(studio, parts, pictures[0], pictures[1])
        except Exception:
            yield {parts.status: fragments.panel("failed", "That did not work", notes=["The message says why."])}
            raise


def _paint(
    studio: Studio, parts: _Parts, job: Job, name: str, label: str, request: Request, before: list[Picture]
) -> Generator[dict[object, object], None, Picture | None]:
    """Paints one side, yielding updates; returns the picture, or None when the job was cancelled."""
    if job.cancelled:
        return None
    with closing(studio.paint(name, request, reuse=True)) as events:
        for event in events:
            if isinstance(event, Picture):
                return event
            side = "B" if before else "A"
            job.note = f"{fragments.where(event)} of {side}"
            if job.cancelled:
                return None
            update: dict[object, object] = {parts.status: fragments.progress(event, f"{side} · {label}")}
            if isinstance(event, Painting):
                left: Image.Image | str = str(before[0].path) if before else event.preview
                update[parts.slider] = (left, event.preview)
            yield update
    return None


def _result(studio: Studio, parts: _Parts, a: Picture, b: Picture) -> dict[object, object]:
    variants = {variant.name: variant for variant in studio.variants()}
    with Image.open(a.path) as left, Image.open(b.path) as right:
        likeness = psnr(left, right), ssim(left, right)
    numbers = {
        "a": _numbers(a),
        "b": _numbers(b),
        "psnr_db": None if math.isinf(likeness[0]) else likeness[0],
        "ssim": likeness[1],
        "identical": math.isinf(likeness[0]),
    }
    return {
        parts.slider: (str(a.path), str(b.path)),
        parts.status: fragments.compared(a, b),
        parts.table: fragments.comparison(a, b, (variants[a.variant], variants[b.variant]), *likeness),
        parts.numbers: numbers,
    }


def _numbers(picture: Picture) -> dict[str, object]:
    return {
        "variant": picture.variant,
        "seconds_per_step": picture.seconds_per_step,
        "total_seconds": picture.total_seconds,
        "peak_bytes": picture.peak_bytes,
        "reused": picture.reused,
    }


def _fresh_cards(parts: _Parts, studio: Studio) -> dict[object, object]:
    choices = card_choices(studio.variants())
    return {parts.first: gr.update(choices=choices), parts.second: gr.update(choices=choices)}
