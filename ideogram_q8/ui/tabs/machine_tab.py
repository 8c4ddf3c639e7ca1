"""The Machine tab: the device, its memory, its kernels, and what is kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import byte_size
from ideogram_q8.ui.engine.studio import Studio, warm_up
from ideogram_q8.ui.parts import fragments, gauges
from ideogram_q8.ui.parts.controls import PRIVATE
from ideogram_q8.ui.parts.form import Desk, friendly_errors, owner_of

if TYPE_CHECKING:
    from types import ModuleType

    from ideogram_q8.ui.engine.machine import Store

_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class _Parts:
    facts: gr.HTML
    memory: gr.HTML
    kernels: gr.HTML
    stores: gr.Radio
    clean: gr.Button
    asked: gr.Group
    question: gr.HTML
    sure: gr.Button
    keep: gr.Button
    clock: gr.Timer

    @property
    def of_stores(self) -> list[Any]:
        """What changes when something was deleted, or not."""
        return [self.stores, self.clean, self.asked]


def build_machine_tab(desk: Desk, tabs: gr.Tabs, tab: gr.Tab, *, everything: bool) -> None:
    """Adds the tab's components and events to the current Blocks context.

    Args:
        tabs, tab: this tab, and those it is one of; memory is looked at only while it is open.
        everything: whether visitors may delete what belongs to all, as on a machine that is theirs alone.
    """
    parts, studio, form = _layout(), desk.studio, desk.form

    def open_tab(width: float, height: float, owner: str | None, request: gr.Request) -> dict[object, object]:
        machine = _machine()
        found = machine.kernels_of(studio, (int(width), int(height)))
        return {
            parts.facts: gauges.facts(
                machine.facts(studio.device) | {"Previews": studio.preview or "chosen with the first picture"}
            ),
            parts.kernels: gauges.kernels(found),
            parts.clock: gr.Timer(active=True),
            **_stores(studio, parts, owner_of(owner, request), everything),
            parts.memory: _memory(studio),
        }

    shown = [parts.facts, parts.kernels, parts.clock, parts.memory, *parts.of_stores]
    tab.select(open_tab, [form.width, form.height, desk.owner], shown, **PRIVATE)

    def watch(event: gr.SelectData) -> gr.Timer:
        return gr.Timer(active=event.value == tab.label)

    tabs.select(watch, None, parts.clock, **PRIVATE)
    parts.clock.tick(lambda: _memory(studio), None, parts.memory, **PRIVATE)
    _connect_cleaning(desk, parts, everything=everything)

    def machine() -> dict[str, Any]:
        """The device, its memory now in bytes, and the variant that is loaded."""
        return _endpoint(studio)

    def clean(store: str, request: gr.Request) -> dict[str, Any]:
        """Delete what is kept on disk: `pictures` of this session; of a machine of one's own also `variants` and `captions`."""
        known = owner_of(None, request)
        with friendly_errors():
            if store not in {each.key for each in _found(studio, known, everything)}:
                raise RequestError(f"nothing is kept under the name {store!r} that you may delete")
            _machine().clean(studio, store, known)
        return {each.key: {"files": each.files, "bytes": each.size_bytes} for each in _found(studio, known, everything)}

    gr.api(machine, api_name="machine", queue=False)
    gr.api(clean, api_name="clean", queue=False)


def _connect_cleaning(desk: Desk, parts: _Parts, *, everything: bool) -> None:
    def ask(key: str | None, owner: str | None, request: gr.Request) -> dict[object, object]:
        found = next((store for store in _found(desk.studio, owner_of(owner, request), everything) if store.key == key), None)
        with friendly_errors():
            if found is None:
                raise RequestError("nothing is chosen; choose what to delete first")
        what = f"{found.files} files, {byte_size(found.size_bytes)}, in {found.folder}"
        question = fragments.panel("failed", f"Delete: {found.title}?", what, notes=["This cannot be undone."])
        return {parts.question: question, parts.asked: gr.update(visible=True), parts.clean: gr.update(interactive=False)}

    def delete(key: str | None, owner: str | None, request: gr.Request) -> dict[object, object]:
        known = owner_of(owner, request)
        with friendly_errors():
            if key in {store.key for store in _found(desk.studio, known, everything)}:
                _machine().clean(desk.studio, str(key), known)
        return _stores(desk.studio, parts, known, everything)

    def keep(owner: str | None, request: gr.Request) -> dict[object, object]:
        return _stores(desk.studio, parts, owner_of(owner, request), everything)

    parts.clean.click(ask, [parts.stores, desk.owner], [parts.question, parts.asked, parts.clean], **PRIVATE)
    parts.sure.click(delete, [parts.stores, desk.owner], parts.of_stores, **PRIVATE)
    parts.keep.click(keep, desk.owner, parts.of_stores, **PRIVATE)


def _layout() -> _Parts:
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            facts = gr.HTML("", elem_id="q8-facts", elem_classes="q8-flat", padding=False)
            memory = gr.HTML("", elem_id="q8-memory", elem_classes="q8-flat", padding=False)
        with gr.Column(scale=1, min_width=320):
            kernels = gr.HTML("", elem_id="q8-kernels", elem_classes="q8-flat", padding=False)
            stores = gr.Radio([], label="Kept on disk", elem_id="q8-stores", elem_classes="q8-cards q8-one")
            clean = gr.Button("Delete …", elem_id="q8-clean")
            with gr.Column(visible=False, elem_id="q8-asked") as asked:
                question = gr.HTML("", elem_classes="q8-flat", padding=False)
                with gr.Row():
                    sure = gr.Button("Delete for good", variant="stop", elem_id="q8-clean-sure")
                    keep = gr.Button("Keep", elem_id="q8-clean-keep")
    return _Parts(facts, memory, kernels, stores, clean, asked, question, sure, keep, gr.Timer(_LOOK_SECONDS, active=False))


def _machine() -> ModuleType:
    """The facts' module, imported with what paints: the page is there before."""
    warm_up()
    from ideogram_q8.ui.engine import machine

    return machine


def _found(studio: Studio, owner: str, everything: bool) -> Sequence[Store]:
    found: Sequence[Store] = _machine().stores(studio, studio.library.files(owner))
    return found if everything else [store for store in found if store.key == "pictures"]


def _stores(studio: Studio, parts: _Parts, owner: str, everything: bool) -> dict[object, object]:
    """What is kept, nothing chosen."""
    found = _found(studio, owner, everything)
    names = [
        (f"{store.title}\n{store.files} files, {byte_size(store.size_bytes)}\n{store.folder}", store.key) for store in found
    ]
    return {
        parts.stores: gr.update(choices=names, value=None),
        parts.clean: gr.update(interactive=True),
        parts.asked: gr.update(visible=False),
    }


def _memory(studio: Studio) -> str:
    return gauges.memory(_machine().gauges(studio.device), studio.last)


def _endpoint(studio: Studio) -> dict[str, Any]:
    machine = _machine()
    rows = [{"name": each.name, "used_bytes": each.used, "total_bytes": each.total} for each in machine.gauges(studio.device)]
    return {"facts": machine.facts(studio.device), "memory": rows, "loaded": studio.loaded_variant}
