"""The Compare tab: the same caption and noise through two to four variants, looked at together, with what each of them took."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from ideogram_q8.ui.engine import comparison, judge
from ideogram_q8.ui.engine.comparison import MOST_SEEDS, Column
from ideogram_q8.ui.engine.events import Painting, Picture, Work
from ideogram_q8.ui.engine.jobs import Job, follow
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import fragments, viewer
from ideogram_q8.ui.parts.controls import ON_DEVICE, PRIVATE, Controls, afterwards, build_controls
from ideogram_q8.ui.parts.form import (
    Desk,
    Fields,
    Painter,
    Visitor,
    failed,
    friendly_errors,
    many_variant_cards,
    read_request,
    visitor_of,
)

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

_IDLE = fragments.panel(
    "idle", "Ready", notes=["All variants paint the same caption from the same noise; only their weights differ."]
)
_EMPTY = viewer.nothing("Choose two to four variants and press Compare. The first one is what the others are measured against.")


@dataclass(frozen=True)
class _Parts:
    chosen: gr.CheckboxGroup
    controls: Controls
    seeds: gr.Slider
    preview: gr.Image
    seed: gr.Radio
    shown: gr.HTML
    status: gr.HTML
    table: gr.HTML
    numbers: gr.JSON
    sheet: gr.DownloadButton
    recipe: gr.DownloadButton
    columns: gr.State
    """The columns of the last comparison; None while there is none."""


def build_compare_tab(desk: Desk) -> Painter:
    """Adds the tab's components and events to the current Blocks context."""
    parts, studio, form = _layout(desk), desk.studio, desk.form

    def compare(
        variants: list[str],
        caption: str,
        preset: str,
        width: float,
        height: float,
        seed: str | None,
        steps: float,
        guidance: float,
        seeds: float,
        owner: str | None,
        request: gr.Request,
    ) -> Iterator[dict[object, object]]:
        """Paint a request with several variants, on one or more seeds. The last message holds HTML for people, and the numbers."""
        fields = caption, preset, width, height, seed, steps, guidance
        yield from _compare(studio, parts, visitor_of(owner, request), variants, fields, int(seeds))

    def end(columns: list[Column] | None, request: gr.Request) -> dict[object, object]:
        return parts.controls.released(request) | _exported(studio, parts, columns)

    start = parts.controls.connect(parts.status)
    run = start.then(
        compare,
        [parts.chosen, *form.inputs, parts.seeds, desk.owner],
        [parts.preview, parts.shown, parts.status, parts.table, parts.seed, parts.columns, parts.numbers],
        api_name="compare",
        **ON_DEVICE,
    )
    changed = [parts.controls.go, parts.controls.cancel, parts.preview, parts.sheet, parts.recipe]
    finished = afterwards(run, end, parts.columns, changed)
    parts.seed.input(_show_seed, [parts.columns, parts.seed], parts.shown, **PRIVATE)
    return Painter(parts.chosen, finished)


def _layout(desk: Desk) -> _Parts:
    known = desk.studio.variants()
    names = [variant.name for variant in known]
    chosen = many_variant_cards(known, [names[0], names[-1]], "Variants · the first is the reference", "q8-compared")
    with gr.Row(equal_height=True):
        with gr.Column(scale=3, min_width=260, elem_classes="q8-actions"):
            controls = build_controls("Compare", "compare", desk.jobs)
        seeds = gr.Slider(1, MOST_SEEDS, 1, step=1, label="Seeds", min_width=200, scale=1, buttons=[], elem_id="q8-seeds")
    status = gr.HTML(_IDLE, elem_id="q8-compare-status", elem_classes="q8-flat", padding=False)
    preview = gr.Image(
        label="Being painted",
        type="filepath",
        format="png",
        height=260,
        interactive=False,
        visible=False,
        buttons=[],
        elem_id="q8-compare-preview",
    )
    seed = gr.Radio([], label="Seed", visible=False, elem_id="q8-compare-seed")
    shown = viewer.build_viewer(_EMPTY, "q8-viewer")
    table = gr.HTML("", elem_id="q8-table", elem_classes="q8-flat", padding=False)
    with gr.Row():
        sheet = gr.DownloadButton("Save as one picture", interactive=False, elem_id="q8-sheet")
        recipe = gr.DownloadButton("Save as JSON that makes it again", interactive=False, elem_id="q8-recipe")
    numbers = gr.JSON(visible=False)
    return _Parts(chosen, controls, seeds, preview, seed, shown, status, table, numbers, sheet, recipe, gr.State())


def _compare(
    studio: Studio, parts: _Parts, visitor: Visitor, names: list[str], fields: Fields, seeds: int
) -> Iterator[dict[object, object]]:
    with friendly_errors(), parts.controls.jobs.running(visitor.session, parts.controls.name, visitor.counted) as job:
        try:
            comparison.check_choice(names)
            requests = comparison.requests(read_request(*fields), seeds)
            known = {variant.name: variant for variant in studio.variants()}
            names = sorted(names, key=list(known).index) if set(names) <= known.keys() else names
            titles = [known[name].title if name in known else name for name in names]
            yield {parts.table: "", parts.columns: None, parts.seed: gr.update(visible=False)}
            pictures = yield from _paint_all(studio, parts, job, list(zip(names, titles, strict=True)), requests, visitor.owner)
            if pictures is None:
                yield {parts.status: fragments.cancelled(job.note)}
                return
            known = {variant.name: variant for variant in studio.variants()}  # their sizes are known now
            columns = comparison.judged(pictures, titles, [known[name].size_bytes for name in names])
            yield _result(parts, columns)
        except Exception as error:
            yield {parts.status: failed(error)}
            raise


def _paint_all(
    studio: Studio, parts: _Parts, job: Job, variants: Sequence[tuple[str, str]], requests: Sequence[Request], owner: str
) -> Generator[dict[object, object], None, list[list[Picture]] | None]:
    """Every seed of one variant, then the next variant: each is loaded once. None when the job was cancelled."""
    pictures: list[list[Picture]] = []
    for name, title in variants:
        row = []
        for request in requests:
            label = title if len(requests) == 1 else f"{title} · seed {request.seed}"
            events = studio.paint(name, request, owner=owner, reuse=True)
            picture = yield from follow(events, job, partial(_show, parts, label))
            if picture is None:
                return None
            row.append(picture)
        pictures.append(row)
    return pictures


def _show(parts: _Parts, label: str, event: Work) -> tuple[str, dict[object, object]]:
    """How far a picture is, in words and on the page."""
    update: dict[object, object] = {parts.status: fragments.progress(event, label)}
    if isinstance(event, Painting) and event.preview is not None:
        update[parts.preview] = gr.update(value=event.preview, visible=True)
    return f"{fragments.where(event)} of {label}", update


def _result(parts: _Parts, columns: list[Column]) -> dict[object, object]:
    seeds = [cell.picture.request.seed for cell in columns[0].cells]
    return {
        parts.preview: gr.update(value=None, visible=False),
        parts.shown: _seed_value(columns, 0),
        parts.seed: gr.update(choices=[(f"seed {seed}", i) for i, seed in enumerate(seeds)], value=0, visible=len(seeds) > 1),
        parts.status: fragments.compared(columns),
        parts.table: fragments.comparison(columns, judge.missing()),
        parts.numbers: comparison.numbers(columns),
        parts.columns: columns,
    }


def _seed_value(columns: Sequence[Column], index: int) -> dict[str, object]:
    pictures = [(column.cells[index].picture.path, column.title) for column in columns]
    request = columns[0].cells[index].picture.request
    return viewer.shown(pictures, (request.width, request.height))


def _show_seed(columns: list[Column] | None, index: int | None) -> object:
    return gr.skip() if columns is None or index is None else _seed_value(columns, index)


def _exported(studio: Studio, parts: _Parts, columns: list[Column] | None) -> dict[object, object]:
    """The files to save, where there are any."""
    files: tuple[str | None, str | None] = (None, None)
    if columns is not None:
        files = tuple(str(path) for path in _export(studio, columns))  # type: ignore[assignment]
    return {
        parts.preview: gr.update(value=None, visible=False),
        parts.sheet: gr.update(value=files[0], interactive=files[0] is not None),
        parts.recipe: gr.update(value=files[1], interactive=files[1] is not None),
    }


def _export(studio: Studio, columns: Sequence[Column]) -> tuple[Path, Path]:
    """The sheet and its JSON, under the reference picture's name, which nobody can guess. They go with any of their pictures."""
    stem = columns[0].cells[0].picture.path.stem
    sheet, recipe = (studio.temporary / f"{stem}-compared.{ending}" for ending in ("png", "json"))
    comparison.as_sheet(columns).save(sheet)
    recipe.write_text(comparison.recipe(columns), encoding="utf-8")
    for made in (sheet, recipe):
        studio.copies.note(made, [cell.picture.path.name for column in columns for cell in column.cells])
    return sheet, recipe
