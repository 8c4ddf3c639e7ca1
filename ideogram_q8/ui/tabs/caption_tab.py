"""The Caption tab: the structured caption as a form and a canvas, in step with the text on the left.

The text is the caption; the form is a view of it. An edit changes what the text says now and writes it anew. A text that cannot be read
is never overwritten: form and canvas are frozen until it can be read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import gradio as gr

from ideogram_q8 import captions as caption
from ideogram_q8.captions import ELEMENT_PALETTE_MAX, STYLE_PALETTE_MAX
from ideogram_q8.errors import CaptionError, RequestError
from ideogram_q8.model.architecture import parse_size
from ideogram_q8.ui.engine import draft
from ideogram_q8.ui.engine.draft import NEW_BOX, Draft, Element, Held
from ideogram_q8.ui.engine.expander import Expander
from ideogram_q8.ui.engine.templates import TEMPLATES
from ideogram_q8.ui.parts import boxes, fragments, palette
from ideogram_q8.ui.parts.controls import PRIVATE
from ideogram_q8.ui.parts.expanding import build_expander
from ideogram_q8.ui.parts.form import Desk, RequestForm, friendly_errors
from ideogram_q8.ui.tabs.caption_form import CaptionForm, build_caption_form, canvas_of, element_fields, shown, style_fields

_EDIT: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last"}
"""For fields: not Gradio's `input` event, which comes with keys alone, not with what is pasted. `change` comes for values from Python
too, so a change that changes nothing writes nothing."""
_Updates = dict[object, object]


def build_caption_tab(desk: Desk, tab: gr.Tab) -> None:
    """Adds the tab's components and events to the current Blocks context; `tab` is this tab, whose opening reads the text.

    Raises:
        SourceError: what was named to write captions with is not what it should be.
    """
    form, expander = desk.form, Expander(desk.studio)
    expanded = build_expander(desk, expander) if expander.problem is None else []
    parts = build_caption_form()
    if expander.problem is not None:  # what cannot be used stands below what can
        build_expander(desk, expander)
    everything = [*parts.form, parts.lint]

    def look(held: Held | None, selected: int, text: str, size: tuple[float, float]) -> _Updates:
        if held is not None and text == held.texts[0]:  # style fields of a style that is not chosen, and what is selected, stay
            return shown(parts, Held(held.draft, (text,)), selected, size) | {parts.lint: _linted(text, [])}
        try:
            found, done = draft.read(text)
        except CaptionError as error:
            return _frozen(parts, error)
        return shown(parts, Held(found, (text,)), 0 if found.elements else -1, size) | {parts.lint: _linted(text, done)}

    def reread(held: Held | None, selected: int, text: str, asked: object, width: float, height: float) -> _Updates:
        found = look(held, selected, text, (width, height))
        return found | {parts.canvas: boxes.in_answer(cast("dict[str, Any]", found[parts.canvas]), asked)}

    sized = [parts.held, parts.selected, form.caption, parts.canvas, form.width, form.height]
    tab.select(reread, sized, everything, **PRIVATE)
    form.caption.blur(reread, sized, everything, **PRIVATE)
    for event in [*expanded, *form.stepped]:
        event.then(reread, sized, everything, **PRIVATE)
    _connect_fields(form, parts)
    _connect_elements(form, parts)

    def use_template(name: str, held: Held | None, text: str, width: float, height: float) -> _Updates:
        with friendly_errors():
            if name not in TEMPLATES:
                raise RequestError("there is no such template; choose one of the list")
        found = TEMPLATES[name]
        held = Held(found, (text, *(held.texts if held else ()))).edited(found)  # the page shows its fields before its text
        return shown(parts, held, 0 if found.elements else -1, (width, height)) | _written(form, parts, held)

    gr.api(lint_caption, api_name="lint_caption", queue=False)
    parts.template.input(
        use_template,
        [parts.template, parts.held, form.caption, form.width, form.height],
        [*everything, form.caption],
        **PRIVATE,
    )


def lint_caption(text: str, size: str = "") -> dict[str, Any]:
    """Check a caption of any kind: its canonical JSON with what could be mended, what that was, and what is left.

    `size` is WxH of the picture where boxes are in its pixels. No key is `path`, for which gradio_client would fetch a file.
    """
    with friendly_errors():
        reading = caption.understand(text, parse_size(size) if size else None)
        if reading.mended is None:
            raise CaptionError(str(reading.left[0]))
        issues = [
            {"place": each.place, "message": each.message, "severity": "warning" if each.kind == "warning" else "error"}
            for each in [*reading.left, *reading.warnings]
        ]
        done = list(map(str, [*reading.taken, *reading.done]))
        return {"caption": reading.mended, "mended": done, "issues": issues, "verdict": reading.verdict}


def _connect(
    form: RequestForm,
    parts: CaptionForm,
    event: Callable[..., Any],
    change: Callable[..., Draft],
    show: Callable[..., _Updates],
    given: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
) -> None:
    """Wires an edit: nothing where it changes nothing, and a frozen form where the text cannot be read.

    Args:
        change: the draft after the edit, from the one before it and the values of `given`.
        show: what else the page shows then, from the held draft and those values.
        outputs: what `show` updates.
    """

    def edited(held: Held | None, text: str, *values: Any) -> _Updates:
        try:
            known = draft.hold(text, held)
        except CaptionError as error:
            return _frozen(parts, error)
        with friendly_errors():
            found = change(known.draft, *values)
            if found == known.draft:
                return {parts.held: known}
            held = known.edited(found)
            return _written(form, parts, held) | show(held, *values)

    written = [parts.held, form.caption, parts.lint, parts.canvas]
    extra = [each for each in outputs if each not in written]
    event(edited, [parts.held, form.caption, *given], [*written, *extra], **_EDIT)


def _connect_fields(form: RequestForm, parts: CaptionForm) -> None:
    """Fields that do not depend on the selected element: each writes its own part of the draft, and the text."""

    def edit(component: Any, name: str, read: Callable[[Any], Any] = lambda value: value) -> None:
        event = component.edit if component is parts.palette else component.change
        _connect(
            form,
            parts,
            event,
            lambda now, value: replace(now, **{name: read(value)}),
            lambda *_: {},
            [component],
            [],
        )

    edit(parts.description, "description")
    edit(parts.background, "background")
    edit(parts.style, "style")
    edit(parts.palette, "palette", lambda value: palette.read(value, STYLE_PALETTE_MAX))
    for name, field in parts.style_texts.items():
        edit(field, name)
    parts.style.change(style_fields, parts.style, [parts.style_row, parts.style_texts["manner"]], **PRIVATE)


def _connect_elements(form: RequestForm, parts: CaptionForm) -> None:
    """What edits one element, or adds and removes one."""
    size = [form.width, form.height]

    def edit(component: Any, name: str, read: Callable[[Any], Any] = lambda value: value) -> None:
        event = component.edit if component is parts.element_palette else component.change
        _connect(
            form,
            parts,
            event,
            lambda now, selected, value, *_: now.with_element(selected, **{name: read(value)}),
            lambda held, selected, _, *wide: {parts.canvas: canvas_of(held.draft, selected, wide)},
            [parts.selected, component, *size],
            [],
        )

    edit(parts.text, "text")
    edit(parts.desc, "desc")
    edit(parts.element_palette, "palette", lambda value: palette.read(value, ELEMENT_PALETTE_MAX))
    _connect_canvas(form, parts)

    def add(button: gr.Button, element: Element) -> None:
        _connect(
            form,
            parts,
            button.click,
            lambda now, *_: now.added(element),
            lambda held, *wide: shown(parts, held, len(held.draft.elements) - 1, wide),
            size,
            parts.form,
        )

    add(parts.add_object, Element("obj", "a new object", bbox=NEW_BOX))
    add(parts.add_text, Element("text", "bold letters", "TEXT", NEW_BOX))
    _connect(
        form,
        parts,
        parts.remove.click,
        lambda now, selected, *_: now.without(selected),
        lambda held, selected, *wide: shown(parts, held, min(selected, len(held.draft.elements) - 1), wide),
        [parts.selected, *size],
        parts.form,
    )


def _connect_canvas(form: RequestForm, parts: CaptionForm) -> None:
    """Boxes that were moved, and a new one, which is an object until its fields say otherwise."""

    def moved(now: Draft, value: object, *_: float) -> Draft:
        found, drawn = now.with_boxes(boxes.read(value)[0]), boxes.drawn(value)
        return found if drawn is None else found.added(Element("obj", "a new object", bbox=drawn))

    def show(held: Held, value: object, *wide: float) -> _Updates:
        last = len(held.draft.elements) - 1
        if boxes.drawn(value) is not None:
            return shown(parts, held, last, (wide[0], wide[1]))
        return element_fields(parts, held.draft, boxes.read(value)[1]) | {parts.selected: boxes.read(value)[1]}

    def choose(held: Held | None, text: str, value: object) -> _Updates:
        try:
            found = draft.hold(text, held).draft
        except CaptionError as error:
            return _frozen(parts, error)
        with friendly_errors():
            selected = boxes.read(value)[1]
        return element_fields(parts, found, selected) | {parts.selected: selected}

    _connect(form, parts, parts.canvas.edit, moved, show, [parts.canvas, form.width, form.height], parts.form)
    fields = [*parts.of_element, parts.lint]
    parts.canvas.select(choose, [parts.held, form.caption, parts.canvas], fields, **_EDIT)


def _frozen(parts: CaptionForm, error: CaptionError) -> _Updates:
    """What the tab shows of a text that it cannot read: why, and that nothing of it is lost."""
    notes = [str(error), "Boxes and fields wait until the text can be read; it stays as you typed it."]
    return {
        parts.lint: fragments.panel("failed", "This caption cannot be edited as a form", notes=notes),
        parts.canvas: boxes.frozen(),
    }


def _written(form: RequestForm, parts: CaptionForm, held: Held) -> _Updates:
    """The draft, its text in the caption's box, and what the linter says of it."""
    return {parts.held: held, form.caption: held.texts[0], parts.lint: _linted(held.texts[0], [])}


def _linted(text: str, done: list[str]) -> str:
    """What is wrong with the caption, and what was mended when it was read."""
    reading = caption.understand(text)
    if reading.given is None:
        return fragments.panel("failed", "Not a caption", notes=list(map(str, reading.left)))
    mended = [f"mended when you edit: {what}" for what in done]
    issues = list(map(str, [*reading.faults, *reading.warnings]))
    if not issues and not mended:
        return fragments.panel("done", "A sound caption", f"{len(reading.given):,} characters")
    return fragments.listed("failed" if issues else "idle", "The linter says", [*issues, *mended])
