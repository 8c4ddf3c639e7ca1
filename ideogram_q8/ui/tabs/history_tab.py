"""The History tab: what this browser made, to look through, to go on from; and settings out of a PNG."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ideogram_q8.errors import IdeogramQ8Error, RequestError
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.ui.engine.album import Album
from ideogram_q8.ui.engine.library import MOST_FOUND, Entry
from ideogram_q8.ui.engine.studio import Studio, warm_up
from ideogram_q8.ui.parts import fragments
from ideogram_q8.ui.parts.controls import PRIVATE, QUIET
from ideogram_q8.ui.parts.form import Desk, Painter, RequestForm, friendly_errors, owner_of

PAGE = 60
"""Pictures shown at first, and more with each press of "Show older"."""
_NONE = fragments.panel("idle", "Nothing chosen", notes=["Click a picture to see how it was made and to go on from it."])


@dataclass(frozen=True)
class _Parts:
    search: gr.Textbox
    favourites: gr.Checkbox
    gallery: gr.Gallery
    details: gr.HTML
    use: gr.Button
    again: gr.Button
    variant: gr.Dropdown
    favourite: gr.Button
    remove: gr.Button
    upload: gr.File
    undo: gr.Button
    older: gr.Button
    limit: gr.State
    """How many pictures are shown at most."""
    entries: gr.State
    """The entries in the gallery, in its order."""
    chosen: gr.State
    """The chosen entry."""

    @property
    def buttons(self) -> list[gr.Button]:
        return [self.use, self.again, self.favourite, self.remove]


@dataclass(frozen=True)
class _Search:
    """The event that looks pictures up: what it calls, the components that it reads, and those that it sets."""

    look: Callable[..., dict[object, object]]
    inputs: list[Component]
    outputs: list[Component]


def build_history_tab(desk: Desk, generate: Painter, tabs: gr.Tabs, tab: gr.Tab) -> None:
    """Adds the tab's components and events to the current Blocks context.

    Args:
        tabs: where the Generate tab has the id "generate".
        tab: this tab; its pictures are looked up when it is opened.
    """
    studio = desk.studio
    parts, album = _layout(studio), Album(studio.library, studio.outputs, studio.copies)
    search = _connect_search(desk, parts, album, tab)
    _connect_choosing(parts)
    _connect_changes(desk, parts, album, search)
    _connect_restoring(studio, parts, desk.form, generate, tabs)
    _add_endpoints(album)


def _connect_search(desk: Desk, parts: _Parts, album: Album, tab: gr.Tab) -> _Search:
    """Looks pictures up when the tab is opened, a search is entered or older ones are wanted; returns how to look again."""

    def look(
        search: str, favourites: bool, chosen: Entry | None, limit: int, owner: str | None, request: gr.Request
    ) -> dict[object, object]:
        with friendly_errors():
            entries = album.pictures(owner_of(owner, request), search or "", favourites=favourites, limit=limit + 1)
        return _found(desk.studio, parts, entries[:limit], chosen) | {
            parts.older: gr.update(visible=len(entries) > limit),
            parts.limit: limit,
        }

    def look_anew(
        search: str, favourites: bool, chosen: Entry | None, _: int, owner: str | None, request: gr.Request
    ) -> dict[object, object]:
        return look(search, favourites, chosen, PAGE, owner, request)

    def look_further(
        search: str, favourites: bool, chosen: Entry | None, limit: int, owner: str | None, request: gr.Request
    ) -> dict[object, object]:
        return look(search, favourites, chosen, limit + PAGE, owner, request)

    looked = [parts.search, parts.favourites, parts.chosen, parts.limit, desk.owner]
    found = [parts.gallery, parts.entries, parts.chosen, parts.details, parts.older, parts.limit, *parts.buttons]
    anew = [tab.select, parts.search.submit, parts.favourites.input]
    gr.on(anew, look_anew, looked, found, **PRIVATE, trigger_mode="always_last")
    parts.older.click(look_further, looked, found, **PRIVATE)
    return _Search(look, looked, found)


def _connect_choosing(parts: _Parts) -> None:
    def choose(entries: list[Entry] | None, event: gr.SelectData) -> dict[object, object]:
        known = entries or []
        return _choose(parts, known[event.index] if event.index < len(known) else None)

    shown = [parts.chosen, parts.details, *parts.buttons]
    parts.gallery.select(choose, parts.entries, shown, **PRIVATE)
    parts.gallery.preview_close(lambda: _choose(parts, None), None, shown, **PRIVATE)


def _connect_changes(desk: Desk, parts: _Parts, album: Album, search: _Search) -> None:
    """Connects the buttons that mark, delete and bring back; after each the pictures are looked up again."""

    def set_favourite(chosen: Entry | None, owner: str | None, request: gr.Request) -> None:
        if chosen is not None:
            with friendly_errors():
                album.set_favourite(owner_of(owner, request), chosen.id, not chosen.favourite)

    def delete(chosen: Entry | None, owner: str | None, request: gr.Request) -> dict[object, object]:
        if chosen is None:
            return {}
        with friendly_errors():
            album.delete(owner_of(owner, request), chosen.id)
        return {parts.undo: gr.update(visible=True)}

    def undo(owner: str | None, request: gr.Request) -> dict[object, object]:
        with friendly_errors():
            album.undo(owner_of(owner, request))
        return {parts.undo: gr.update(visible=False)}

    changed = [
        parts.favourite.click(set_favourite, [parts.chosen, desk.owner], None, **PRIVATE),
        parts.remove.click(delete, [parts.chosen, desk.owner], parts.undo, **PRIVATE),
        parts.undo.click(undo, desk.owner, parts.undo, **PRIVATE),
    ]
    for event in changed:
        event.then(search.look, search.inputs, search.outputs, **PRIVATE)


def _add_endpoints(album: Album) -> None:
    """For programs, whose pictures belong to their session."""

    def history(
        request: gr.Request, search: str | None = None, favourites: bool | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The pictures of this session that have every word of `search`, the newest first; at most 1,000, or `limit`."""
        with friendly_errors():
            most = MOST_FOUND if limit is None or limit < 0 else min(limit, MOST_FOUND)
            found = album.pictures(owner_of(None, request), search or "", favourites=bool(favourites), limit=most)
        return [{"id": entry.id, "file": entry.file, "favourite": entry.favourite, **entry.metadata} for entry in found]

    def favourite(picture: int, favourite: bool, request: gr.Request) -> str:
        """Mark a picture of this session by its id, or take the mark away."""
        with friendly_errors():
            album.set_favourite(owner_of(None, request), picture, favourite)
        return "marked" if favourite else "not marked any more"

    def delete_picture(picture: int, request: gr.Request) -> str:
        """Delete a picture of this session by its id; `undo_delete` brings the last one back within an hour."""
        with friendly_errors():
            album.delete(owner_of(None, request), picture)
        return "deleted"

    def undo_delete(request: gr.Request) -> int:
        """Bring back the picture that this session deleted last; returns its id."""
        with friendly_errors():
            return album.undo(owner_of(None, request)).id

    for endpoint in (history, favourite, delete_picture, undo_delete):
        gr.api(endpoint, api_name=endpoint.__name__, queue=False)


def _connect_restoring(studio: Studio, parts: _Parts, form: RequestForm, generate: Painter, tabs: gr.Tabs) -> None:
    filled = [*form.inputs, generate.cards, tabs]

    def use(chosen: Entry | None) -> list[object]:
        return _filled(studio, form, chosen.metadata if chosen else {}, chosen.variant if chosen else "")

    def again(chosen: Entry | None, variant: str) -> list[object]:
        return _filled(studio, form, chosen.metadata if chosen else {}, variant)

    def restore(upload: str | None) -> list[object]:
        """The settings of a PNG made here: caption, preset, width, height, seed, steps, guidance, variant."""
        metadata = _read_upload(Path(upload)) if upload else {}
        return _filled(studio, form, metadata, str(metadata.get("variant", "")))

    parts.use.click(use, parts.chosen, filled, **PRIVATE)
    parts.upload.upload(restore, parts.upload, filled, **QUIET, api_name="restore")
    press = "() => document.querySelector('#q8-generate').click()"
    parts.again.click(again, [parts.chosen, parts.variant], filled, **PRIVATE).then(None, js=press)


def _read_upload(path: Path) -> dict[str, Any]:
    """What a PNG says of itself. The file, which lies in the app's temporary folder, goes."""
    with friendly_errors():
        try:
            return read_metadata(path)
        except IdeogramQ8Error as error:
            raise RequestError(
                str(error).replace(f"{path.parent}/", "")
            ) from error  # the visitor's name for it, not the server's
        finally:
            path.unlink(missing_ok=True)


def _layout(studio: Studio) -> _Parts:
    with gr.Group():
        search = gr.Textbox(label="Search", info="words of the caption, a variant, a seed; Enter looks", elem_id="q8-search")
        favourites = gr.Checkbox(False, label="Favourites only", elem_id="q8-favourites")
    with gr.Row(equal_height=False):
        with gr.Column(scale=11, min_width=320):
            gallery = gr.Gallery(
                label="Your pictures",
                columns=4,
                height=520,
                format="png",
                interactive=False,
                preview=False,
                show_label=False,
                buttons=["download", "fullscreen"],
                elem_id="q8-gallery",
            )
            undo = gr.Button("Undo deleting", visible=False, size="sm", elem_id="q8-undo")
            older = gr.Button("Show older", visible=False, size="sm", elem_id="q8-older")
        with gr.Column(scale=9, min_width=300):
            details = gr.HTML(_NONE, elem_id="q8-details", elem_classes="q8-flat", padding=False)
            use = gr.Button("Use these settings", interactive=False, elem_id="q8-use")
            names = [(variant.title, variant.name) for variant in studio.variants()]
            with gr.Row(equal_height=True):
                variant = gr.Dropdown(names, value=names[0][1], label="Variant", min_width=120, elem_id="q8-again-variant")
                again = gr.Button("Again with it", interactive=False, min_width=120, elem_id="q8-again")
            with gr.Row():
                favourite = gr.Button("Favourite", interactive=False, min_width=120, elem_id="q8-favourite")
                remove = gr.Button("Delete", interactive=False, variant="stop", min_width=120, elem_id="q8-remove")
            gr.HTML("Settings from a PNG made here", elem_classes="q8-flat q8-label", padding=False)
            upload = gr.File(label="PNG", show_label=False, file_types=[".png"], height=120, elem_id="q8-restore")
    state = gr.State(PAGE), gr.State(), gr.State()
    return _Parts(search, favourites, gallery, details, use, again, variant, favourite, remove, upload, undo, older, *state)


def _label(entry: Entry) -> str:
    return f"{'★ ' if entry.favourite else ''}{entry.variant} · seed {entry.metadata['seed']}"


def _found(studio: Studio, parts: _Parts, entries: list[Entry], chosen: Entry | None) -> dict[object, object]:
    """The gallery with these entries. What was chosen stays chosen where it is among them, else the gallery shows all of them."""
    index = next((i for i, entry in enumerate(entries) if chosen is not None and entry.id == chosen.id), None)
    cards = [(str(studio.outputs / entry.file), _label(entry)) for entry in entries]
    gallery = gr.Gallery(value=cards, selected_index=index)  # not gr.update, which leaves out what is None
    return {parts.gallery: gallery, parts.entries: entries} | _choose(parts, None if index is None else entries[index])


def _choose(parts: _Parts, entry: Entry | None) -> dict[object, object]:
    known = entry is not None
    details = fragments.made(entry) if entry is not None else _NONE
    title = "No favourite any more" if entry is not None and entry.favourite else "Favourite"
    return {
        parts.chosen: entry,
        parts.details: details,
        parts.use: gr.update(interactive=known),
        parts.again: gr.update(interactive=known),
        parts.favourite: gr.update(value=title, interactive=known),
        parts.remove: gr.update(interactive=known),
    }


def _filled(studio: Studio, form: RequestForm, metadata: dict[str, Any], variant: str) -> list[object]:
    """Values for the form, the Generate tab's variant and the tabs; says where the variant is not offered: others paint otherwise."""
    warm_up()
    from ideogram_q8.runtime.generation.sampling import Request

    with friendly_errors():
        if not metadata:
            raise RequestError("nothing is chosen; click a picture, or drop a PNG made here")
        fields = (metadata[name] for name in ("caption", "seed", "preset", "width", "height"))
        request = Request(*fields)
        request.check(studio.traits)
        offered = studio.variants()
        original = {found.title.lower(): found.name for found in offered if found.name == "fp8"}  # "bf16", if it is stored so
        variant = original.get(variant, variant)
        known = any(found.name == variant for found in offered)
        if not known:
            gr.Warning(
                f"It was made with {html.escape(variant)}, which is not offered here; another variant paints another picture"
            )
        return [*form.filled(request), variant if known else gr.skip(), gr.Tabs(selected="generate")]
