"""The Blind vote tab: two pictures without names, a vote, and what all votes say so far."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.measure import preference
from ideogram_q8.measure.preference import Choice
from ideogram_q8.ui.engine.blind import BlindSide, Round, Rounds, draw_pair, nameless
from ideogram_q8.ui.engine.events import Painting, Picture, Work
from ideogram_q8.ui.engine.jobs import follow
from ideogram_q8.ui.engine.library import MOST_FOUND
from ideogram_q8.ui.engine.seeds import roll_seed
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
    pass

CATEGORIES = ("anything", "text", "people", "hands", "animals", "products", "architecture", "landscapes", "design")
_BUTTONS: tuple[tuple[str, Choice], ...] = (
    ("Left is better", "left"),
    ("Right is better", "right"),
    ("Equally good", "tie"),
    ("Both bad", "both_bad"),
)
_IDLE = fragments.panel(
    "idle", "Ready", notes=["Two of the chosen variants paint your caption. Which is which, you learn after the vote."]
)
_EMPTY = viewer.nothing("Start a round: two pictures appear here without names.")
_ALL = "All votes"


@dataclass(frozen=True)
class _Parts:
    chosen: gr.CheckboxGroup
    category: gr.Dropdown
    fresh: gr.Checkbox
    controls: Controls
    shown: gr.HTML
    status: gr.HTML
    votes: tuple[gr.Button, ...]
    token: gr.Textbox
    """All that the page knows of a round."""
    standings: gr.HTML
    export: gr.Button
    exported: gr.DownloadButton
    """The file, made when `export` is pressed, and downloaded by the page at once."""


def build_vote_tab(desk: Desk, page: gr.Blocks) -> Painter:
    """Adds the tab's components and events to the current Blocks context, `page`."""
    parts, rounds, studio, form = _layout(desk), Rounds(), desk.studio, desk.form

    def blind(
        variants: list[str],
        category: str,
        fresh: bool,
        caption: str,
        preset: str,
        width: float,
        height: float,
        seed: str | None,
        steps: float,
        guidance: float,
        owner: str | None,
        request: gr.Request,
    ) -> Iterator[dict[object, object]]:
        """Paint a request with two random variants, unnamed. The last message holds the token to vote with."""
        fields = caption, preset, width, height, roll_seed() if fresh else seed, steps, guidance
        yield from _blind(studio, parts, rounds, visitor_of(owner, request), variants, category, fields)

    start = parts.controls.connect(parts.status, *parts.votes)
    run = start.then(
        blind,
        [parts.chosen, parts.category, parts.fresh, *form.inputs, desk.owner],
        [parts.shown, parts.status, parts.token, *parts.votes],
        api_name="blind",
        **ON_DEVICE,
    )
    finished = afterwards(run, parts.controls.released, None, [parts.controls.go, parts.controls.cancel])
    outputs = [parts.status, parts.shown, parts.token, parts.standings, parts.export, *parts.votes]
    for button, (_, choice) in zip(parts.votes, _BUTTONS, strict=True):
        button.click(functools.partial(_vote, studio, parts, rounds, choice), parts.token, outputs, **PRIVATE)
    page.load(lambda: _counted(studio, parts), None, [parts.standings, parts.export], **PRIVATE)
    press = "() => setTimeout(() => document.querySelector('#q8-votes-exported').click(), 100)"
    parts.export.click(lambda: _export(studio), None, parts.exported, **PRIVATE).then(None, js=press)
    _add_endpoints(studio, rounds)
    return Painter(parts.chosen, finished)


def _add_endpoints(studio: Studio, rounds: Rounds) -> None:
    def vote(token: str, choice: str) -> dict[str, str]:
        """Vote on a round by its token: left, right, tie or both_bad. Says then which variant was on which side."""
        with friendly_errors():
            found = _entered(studio, rounds, token, cast("Choice", choice))
            return {"left": found.left.variant, "right": found.right.variant}

    def standings() -> list[dict[str, Any]]:
        """The order of the variants by all votes, with intervals."""
        return [asdict(standing) for standing in preference.standings(studio.library.ballots())]

    def votes() -> list[dict[str, Any]]:
        """The newest 1,000 votes, the oldest of them first; captions by their sha256. The page exports all."""
        return studio.library.exported_votes(MOST_FOUND)

    gr.api(vote, api_name="vote", queue=False)
    gr.api(standings, api_name="standings", queue=False)
    gr.api(votes, api_name="votes", queue=False)


def _layout(desk: Desk) -> _Parts:
    known = desk.studio.variants()
    chosen = many_variant_cards(known, [variant.name for variant in known], "Variants that may meet", "q8-blind-variants")
    with gr.Row(equal_height=True):
        category = gr.Dropdown(CATEGORIES, value=CATEGORIES[0], label="Category", min_width=180, scale=1)
        with gr.Column(scale=3, min_width=260, elem_classes="q8-actions"):
            controls = build_controls("New round", "blind", desk.jobs)
    fresh = gr.Checkbox(True, label="A new seed for every round", container=False, elem_id="q8-blind-fresh")
    status = gr.HTML(_IDLE, elem_id="q8-blind-status", elem_classes="q8-flat", padding=False)
    shown = viewer.build_viewer(_EMPTY, "q8-blind-viewer")
    with gr.Row():
        votes = tuple(gr.Button(title, interactive=False, elem_id=f"q8-vote-{choice}") for title, choice in _BUTTONS)
    standings = gr.HTML("", elem_id="q8-standings", elem_classes="q8-flat", padding=False)
    export = gr.Button("Export all votes as JSON", interactive=False, elem_id="q8-votes-export")
    exported = gr.DownloadButton(visible="hidden", elem_id="q8-votes-exported")
    token = gr.Textbox(visible=False)
    return _Parts(chosen, category, fresh, controls, shown, status, votes, token, standings, export, exported)


def _blind(
    studio: Studio,
    parts: _Parts,
    rounds: Rounds,
    visitor: Visitor,
    variants: list[str],
    category: str,
    fields: Fields,
) -> Iterator[dict[object, object]]:
    with friendly_errors(), parts.controls.jobs.running(visitor.session, parts.controls.name, visitor.counted) as job:
        try:
            request, pair = read_request(*fields), draw_pair(variants)
            yield {parts.shown: viewer.nothing("Painting two pictures …"), parts.token: ""}
            pictures: list[Picture] = []
            for name in sorted(pair):  # in an order that does not depend on the sides
                events = studio.paint(name, request, owner=visitor.owner, reuse=True)
                picture = yield from follow(events, job, functools.partial(_show, parts, len(pictures) + 1))
                if picture is None:
                    yield {parts.status: fragments.cancelled(job.note), parts.shown: _EMPTY}
                    return
                pictures.append(picture)
            by_name = {picture.variant: picture for picture in pictures}
            left, right = (_side(studio, by_name[name]) for name in pair)
            yield _opened(parts, rounds, Round(left, right, request, category))
        except Exception as error:
            yield {parts.status: failed(error)}
            raise


def _show(parts: _Parts, number: int, event: Work) -> tuple[str, dict[object, object]]:
    """How far a picture is; nothing of the variant, not even how long a step takes."""
    fraction = event.index / event.total if isinstance(event, Painting) else 0.0
    panel = fragments.panel("running", f"Picture {number} of 2", fraction=fraction)
    return f"at picture {number} of 2", {parts.status: panel}


def _side(studio: Studio, picture: Picture) -> BlindSide:
    copy = nameless(picture.path, studio.temporary)
    studio.copies.note(copy, [picture.path.name])
    return BlindSide(picture.variant, str(picture.metadata["artifact_sha256"]), copy)


def _opened(parts: _Parts, rounds: Rounds, found: Round) -> dict[object, object]:
    size = found.request.width, found.request.height
    return {
        parts.shown: viewer.shown([(found.left.picture, "Left"), (found.right.picture, "Right")], size),
        parts.status: fragments.panel("running", "Which is better?", notes=["Look closely: zoom, slide, subtract. Then vote."]),
        parts.token: rounds.add(found),
        **{button: gr.update(interactive=True) for button in parts.votes},
    }


def _entered(studio: Studio, rounds: Rounds, token: str, choice: Choice) -> Round:
    """Enters a vote. Raises RequestError: there is no such round, or the choice is none."""
    if not token:
        raise RequestError("there is no round to vote on; start one")
    found, vote = rounds.vote(token, choice)
    studio.library.vote(vote)
    return found


def _vote(studio: Studio, parts: _Parts, rounds: Rounds, choice: Choice, token: str) -> dict[object, object]:
    with friendly_errors():
        found = _entered(studio, rounds, token, choice)
    titles = _titles(studio)
    left, right = (titles.get(side.variant, side.variant) for side in (found.left, found.right))
    said = next(title for title, value in _BUTTONS if value == choice)
    size = found.request.width, found.request.height
    return {
        parts.status: fragments.panel("done", f"Left was {left}, right was {right}", f"your vote: {said.lower()}"),
        parts.shown: viewer.shown([(found.left.picture, left), (found.right.picture, right)], size),
        parts.token: "",
        **{button: gr.update(interactive=False) for button in parts.votes},
        **_counted(studio, parts),
    }


def _counted(studio: Studio, parts: _Parts) -> dict[object, object]:
    """The standings, overall and by category."""
    ballots = studio.library.ballots()
    if not ballots:
        return {parts.standings: fragments.standings({}, {}), parts.export: gr.update(interactive=False)}
    groups = {_ALL: preference.standings(ballots)}
    categories = preference.by_category(ballots)
    groups |= categories if len(categories) > 1 else {}
    return {parts.standings: fragments.standings(groups, _titles(studio)), parts.export: gr.update(interactive=True)}


def _export(studio: Studio) -> str:
    """The path of a new file with all votes. It goes with the app's temporary folder, those before it at once."""
    for old in studio.temporary.glob("votes-*.json"):
        old.unlink(missing_ok=True)
    path = studio.temporary / f"votes-{secrets.token_hex(8)}.json"
    path.write_text(studio.library.export_votes(), encoding="utf-8")
    return str(path)


def _titles(studio: Studio) -> dict[str, str]:
    return {variant.name: variant.title for variant in studio.variants()}
