"""The Caption tab's components: the form of a caption, and what of a draft each of them shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import gradio as gr

from ideogram_q8.captions import ELEMENT_PALETTE_MAX, STYLE_PALETTE_MAX
from ideogram_q8.ui.engine.draft import Draft, Held
from ideogram_q8.ui.engine.templates import TEMPLATES
from ideogram_q8.ui.parts.boxes import build_boxes, canvas
from ideogram_q8.ui.parts.palette import build_palette, colours

_STYLES = [("no style", "none"), ("photo", "photo"), ("art", "art_style")]
_MANNERS = {"photo": "Camera and lens", "art_style": "Art style"}
_STYLE_FIELDS = ("aesthetics", "lighting", "medium", "manner")


@dataclass(frozen=True)
class CaptionForm:
    """The components. `held` is the draft that they show (`draft.Held`), `selected` the index of its selected element, or -1."""

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
    held: gr.State
    selected: gr.State

    @property
    def form(self) -> list[gr.components.Component]:
        """Everything that shows the draft, but not the caption's text."""
        texts = [self.description, self.background, self.style, self.style_row, *self.style_texts.values(), self.palette]
        return [*texts, *self.of_element, self.held]

    @property
    def of_element(self) -> list[gr.components.Component]:
        """What shows the selected element, and the canvas."""
        return [self.canvas, self.selected, self.element, self.text, self.desc, self.element_palette]


def build_caption_form() -> CaptionForm:
    """Adds the components to the current Blocks context."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320, elem_classes="q8-editing"):
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
            with gr.Column(elem_classes="q8-editing"):
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
    return CaptionForm(lint, template, board, *fields, colours_of_element, remove, *states)


def canvas_of(found: Draft, selected: int, size: tuple[float, float]) -> dict[str, Any]:
    """The canvas's value for a draft on a picture of `size`, width and height."""
    rows = [(element.label, element.kind, element.bbox) for element in found.elements]
    return canvas(cast("Any", rows), selected, (int(size[0]), int(size[1])))


def shown(parts: CaptionForm, held: Held, selected: int, size: tuple[float, float]) -> dict[object, object]:
    """Every field of the form as the draft has it."""
    found = held.draft
    return {
        parts.held: held,
        parts.description: found.description,
        parts.background: found.background,
        parts.style: found.style,
        parts.palette: colours(found.palette, STYLE_PALETTE_MAX),
        **{field: getattr(found, name) for name, field in parts.style_texts.items()},
        **dict(zip((parts.style_row, parts.style_texts["manner"]), style_fields(found.style, found.manner), strict=True)),
        **element_fields(parts, found, selected),
        parts.selected: selected,
        parts.canvas: canvas_of(found, selected, size),
    }


def style_fields(style: str, manner: object = None) -> tuple[object, object]:
    """Whether the style's fields are seen, and how the one that depends on its kind is called."""
    label = _MANNERS.get(style, "Art style")
    return gr.update(visible=style != "none"), gr.update(label=label) if manner is None else gr.update(
        label=label, value=manner
    )


def element_fields(parts: CaptionForm, found: Draft, selected: int) -> dict[object, object]:
    """The fields of the selected element; none are seen where none is selected."""
    if not 0 <= selected < len(found.elements):
        return {parts.element: gr.update(visible=False)}
    element = found.elements[selected]
    return {
        parts.element: gr.update(visible=True),
        parts.text: gr.update(value=element.text, visible=element.kind == "text"),
        parts.desc: element.desc,
        parts.element_palette: colours(element.palette, ELEMENT_PALETTE_MAX),
    }
