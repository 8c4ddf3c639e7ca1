"""The Caption tab: the structured caption as a form and a canvas, in step with the text on the left.

The text is the caption; the form is a view of it. Each edit of the form writes the text anew, and opening the tab reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import gradio as gr

from ideogram_q8 import caption
from ideogram_q8.caption import ELEMENT_PALETTE_MAX, STYLE_PALETTE_MAX
from ideogram_q8.caption.repair import repair
from ideogram_q8.errors import CaptionError
from ideogram_q8.ui import boxes, draft, fragments, palette
from ideogram_q8.ui.boxes import build_boxes, canvas
from ideogram_q8.ui.controls import PRIVATE
from ideogram_q8.ui.draft import NEW_BOX, Draft, Element
from ideogram_q8.ui.expander import Expander
from ideogram_q8.ui.expanding import build_expander
from ideogram_q8.ui.form import Desk, RequestForm, friendly_errors
from ideogram_q8.ui.palette import build_palette, colours
from ideogram_q8.ui.templates import TEMPLATES

_EDIT: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last"}
"""For fields: not Gradio's `input` event, which comes with keys alone, not with what is pasted. `change` comes for values from Python
too, so a change that changes nothing writes nothing."""
_STYLES = [("no style", "none"), ("photo", "photo"), ("art", "art_style")]
_MANNERS = {"photo": "Camera and lens", "art_style": "Art style"}
_STYLE_FIELDS = ("aesthetics", "lighting", "medium", "manner")


@dataclass(frozen=True)
class _Parts:
    lint: gr.HTML
    template: gr.Dropdown
    canvas: gr.HTML
    description: gr.Textbox
    background: gr.Textbox
    style: gr.Radio
    style_row: gr.Column
    style_texts: dict[str, gr.Textbox]
    palette: gr.HTML
    add_object: gr.Button
    add_text: gr.Button
    element: gr.Column
    text: gr.Textbox
    desc: gr.Textbox
    element_palette: gr.HTML
    remove: gr.Button
    draft: gr.State
    selected: gr.State

    @property
    def form(self) -> list[gr.components.Component]:
        """Everything that shows the draft, but not the caption's text."""
        texts = [self.description, self.background, self.style, self.style_row, *self.style_texts.values(), self.palette]
        return [*texts, *self.of_element, self.draft]

    @property
    def of_element(self) -> list[gr.components.Component]:
        """What shows the selected element, and the canvas."""
        return [self.canvas, self.selected, self.element, self.text, self.desc, self.element_palette]


def build_caption_tab(desk: Desk, tab: gr.Tab) -> None:
    """Adds the tab's components and events to the current Blocks context; `tab` is this tab, whose opening reads the text.

    Raises:
        SourceError: what was named to write captions with is not what it should be.
    """
    form, expander = desk.form, Expander(desk.studio)
    expanded = build_expander(desk, expander) if expander.problem is None else []
    parts = _layout()
    if expander.problem is not None:  # what cannot be used stands below what can
        build_expander(desk, expander)
    everything = [*parts.form, parts.lint]

    def reread(text: str, width: float, height: float) -> dict[object, object]:
        try:
            found, done = draft.read(text)
        except CaptionError as error:
            return {parts.lint: fragments.panel("failed", "This caption cannot be edited as a form", notes=[str(error)])}
        return _shown(parts, found, 0 if found.elements else -1, (width, height)) | {parts.lint: _linted(text, done)}

    sized = [form.caption, form.width, form.height]
    tab.select(reread, sized, everything, **PRIVATE)
    form.caption.blur(reread, sized, everything, **PRIVATE)
    for event in expanded:
        event.then(reread, sized, everything, **PRIVATE)
    _connect_fields(form, parts)
    _connect_elements(form, parts)

    def use_template(name: str, width: float, height: float) -> dict[object, object]:
        found = TEMPLATES[name]
        return _shown(parts, found, 0 if found.elements else -1, (width, height)) | _written(form, parts, found)

    def lint_caption(text: str) -> dict[str, Any]:
        """Check a caption, plain or structured: its canonical JSON with what could be mended, what that was, and what is left."""
        with friendly_errors():
            mended, done = repair(_value(text))
            issues = [
                {"where": each.path, "message": each.message, "severity": each.severity}  # Gradio takes a "path" for a file's
                for each in caption.lint(mended)
            ]
            return {"caption": caption.canonical(mended), "mended": done, "issues": issues}

    gr.api(lint_caption, api_name="lint_caption", queue=False)
    parts.template.input(use_template, [parts.template, form.width, form.height], [*everything, form.caption], **PRIVATE)


def _connect_fields(form: RequestForm, parts: _Parts) -> None:
    """Fields that do not depend on the selected element: each writes its own part of the draft, and the text."""

    def edit(component: gr.components.Component, name: str, read: Callable[[Any], Any] = lambda value: value) -> None:
        def changed(now: Draft | None, value: Any) -> dict[object, object]:
            with friendly_errors():
                found = replace(now or Draft(), **{name: read(value)})
            return {parts.draft: gr.skip()} if found == now else _written(form, parts, found)

        event = component.edit if component is parts.palette else component.change
        event(changed, [parts.draft, component], [parts.draft, form.caption, parts.lint], **_EDIT)

    edit(parts.description, "description")
    edit(parts.background, "background")
    edit(parts.style, "style")
    edit(parts.palette, "palette", lambda value: palette.read(value, STYLE_PALETTE_MAX))
    for name, field in parts.style_texts.items():
        edit(field, name)
    parts.style.change(_style_fields, parts.style, [parts.style_row, parts.style_texts["manner"]], **PRIVATE)


def _connect_elements(form: RequestForm, parts: _Parts) -> None:
    written = [parts.draft, form.caption, parts.lint]
    size = [form.width, form.height]

    def edit(component: gr.components.Component, name: str, read: Callable[[Any], Any] = lambda value: value) -> None:
        def changed(now: Draft | None, selected: int, value: Any, width: float, height: float) -> dict[object, object]:
            with friendly_errors():
                found = (now or Draft()).with_element(selected, **{name: read(value)})
            if found == now:
                return {parts.draft: gr.skip()}
            return _written(form, parts, found) | {parts.canvas: _canvas(found, selected, (width, height))}

        event = component.edit if component is parts.element_palette else component.change
        event(changed, [parts.draft, parts.selected, component, *size], [*written, parts.canvas], **_EDIT)

    edit(parts.text, "text")
    edit(parts.desc, "desc")
    edit(parts.element_palette, "palette", lambda value: palette.read(value, ELEMENT_PALETTE_MAX))

    def moved(now: Draft | None, value: object) -> dict[object, object]:
        with friendly_errors():
            found_boxes, selected = boxes.read(value)
        found = (now or Draft()).with_boxes(found_boxes)
        fields = _element_fields(parts, found, selected)
        return _written(form, parts, found) | fields | {parts.selected: selected}

    fields = [parts.selected, parts.element, parts.text, parts.desc, parts.element_palette]
    parts.canvas.edit(moved, [parts.draft, parts.canvas], [*written, *fields], **_EDIT)

    def add(element: Element) -> Callable[[Draft | None, float, float], dict[object, object]]:
        def added(now: Draft | None, width: float, height: float) -> dict[object, object]:
            with friendly_errors():
                found = (now or Draft()).added(element)
            return _shown(parts, found, len(found.elements) - 1, (width, height)) | _written(form, parts, found)

        return added

    def removed(now: Draft | None, selected: int, width: float, height: float) -> dict[object, object]:
        found = (now or Draft()).without(selected)
        return _shown(parts, found, min(selected, len(found.elements) - 1), (width, height)) | _written(form, parts, found)

    outputs = [*parts.form, parts.lint, form.caption]
    parts.add_object.click(add(Element("obj", "a new object", bbox=NEW_BOX)), [parts.draft, *size], outputs, **PRIVATE)
    parts.add_text.click(add(Element("text", "bold letters", "TEXT", NEW_BOX)), [parts.draft, *size], outputs, **PRIVATE)
    parts.remove.click(removed, [parts.draft, parts.selected, *size], outputs, **PRIVATE)


def _layout() -> _Parts:
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            board = build_boxes(canvas([], -1, (1, 1)), "q8-canvas")
            with gr.Row():
                add_object = gr.Button("Add object", min_width=120, elem_id="q8-add-object")
                add_text = gr.Button("Add text", min_width=120, elem_id="q8-add-text")
            with gr.Column(visible=False, elem_id="q8-element") as element:
                text = gr.Textbox(label="Text, letter for letter", elem_id="q8-element-text")
                desc = gr.Textbox(label="What it is, how it looks", lines=2, elem_id="q8-element-desc")
                gr.HTML("Its colours", elem_classes="q8-flat q8-label", padding=False)
                colours_of_element = build_palette(ELEMENT_PALETTE_MAX, "q8-element-palette")
                remove = gr.Button("Remove this element", variant="stop", elem_id="q8-element-remove")
        with gr.Column(scale=5, min_width=300):
            template = gr.Dropdown(list(TEMPLATES), value=None, label="Start from a template", elem_id="q8-template")
            lint = gr.HTML("", elem_id="q8-lint", elem_classes="q8-flat", padding=False)
            description = gr.Textbox(label="What the picture is", lines=2, elem_id="q8-description")
            background = gr.Textbox(label="Background", lines=2, elem_id="q8-background")
            style = gr.Radio(_STYLES, value="none", label="Style", elem_id="q8-style")
            with gr.Column(visible=False) as style_row:
                names = ("Aesthetics", "Lighting", "Medium", "Art style")
                texts = {
                    field: gr.Textbox(label=name, elem_id=f"q8-{field}")
                    for field, name in zip(_STYLE_FIELDS, names, strict=True)
                }
                gr.HTML("Palette of the picture", elem_classes="q8-flat q8-label", padding=False)
                whole = build_palette(STYLE_PALETTE_MAX, "q8-palette")
    states = gr.State(), gr.State(-1)
    fields = description, background, style, style_row, texts, whole, add_object, add_text, element, text, desc
    return _Parts(lint, template, board, *fields, colours_of_element, remove, *states)


def _canvas(found: Draft, selected: int, size: tuple[float, float]) -> dict[str, Any]:
    rows = [(element.label, element.kind, element.bbox) for element in found.elements]
    return canvas(cast("Any", rows), selected, (int(size[0]), int(size[1])))


def _shown(parts: _Parts, found: Draft, selected: int, size: tuple[float, float]) -> dict[object, object]:
    """Every field of the form as the draft has it."""
    return {
        parts.draft: found,
        parts.description: found.description,
        parts.background: found.background,
        parts.style: found.style,
        parts.palette: colours(found.palette, STYLE_PALETTE_MAX),
        **{field: getattr(found, name) for name, field in parts.style_texts.items()},
        **dict(zip((parts.style_row, parts.style_texts["manner"]), _style_fields(found.style, found.manner), strict=True)),
        **_element_fields(parts, found, selected),
        parts.selected: selected,
        parts.canvas: _canvas(found, selected, size),
    }


def _style_fields(style: str, manner: object = None) -> tuple[object, object]:
    """Whether the style's fields are seen, and how the one that depends on its kind is called."""
    label = _MANNERS.get(style, "Art style")
    return gr.update(visible=style != "none"), gr.update(label=label) if manner is None else gr.update(
        label=label, value=manner
    )


def _element_fields(parts: _Parts, found: Draft, selected: int) -> dict[object, object]:
    if not 0 <= selected < len(found.elements):
        return {parts.element: gr.update(visible=False)}
    element = found.elements[selected]
    return {
        parts.element: gr.update(visible=True),
        parts.text: gr.update(value=element.text, visible=element.kind == "text"),
        parts.desc: element.desc,
        parts.element_palette: colours(element.palette, ELEMENT_PALETTE_MAX),
    }


def _written(form: RequestForm, parts: _Parts, found: Draft) -> dict[object, object]:
    """The draft, its text in the caption's box, and what the linter says of it."""
    text = draft.write(found)
    return {parts.draft: found, form.caption: text, parts.lint: _linted(text, [])}


def _value(text: str) -> dict[str, Any]:
    """A caption as it was typed, structured or plain. Raises CaptionError."""
    return caption.parse(text) if text.strip().startswith("{") else caption.wrap_plain_text(text.strip())


def _linted(text: str, done: list[str]) -> str:
    """What is wrong with the caption, and what was mended when it was read."""
    mended = [f"mended when you edit: {what}" for what in done]
    try:
        value = _value(text)
    except CaptionError as error:
        return fragments.panel("failed", "Not a caption", notes=[str(error)])
    issues = [str(issue) for issue in caption.lint(value)]
    if not issues and not mended:
        return fragments.panel("done", "A sound caption", f"{len(caption.canonical(value)):,} characters")
    return fragments.listed("failed" if issues else "idle", "The linter says", [*issues, *mended])
