"""What both tabs share: the caption, preset, size and seed on the left of the page, and the cards to pick a variant."""

from __future__ import annotations

import html
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr

from ideogram_q8.architecture import PRESETS, SIDE_MULTIPLE, Traits
from ideogram_q8.caption import to_caption
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.generation import Request
from ideogram_q8.ui import fragments
from ideogram_q8.ui.examples import EXAMPLES
from ideogram_q8.variants import Variant

MAX_SEED = 2**31 - 1
_PRESET_TITLES = {"turbo-12": "Turbo · 12", "default-20": "Default · 20", "quality-48": "Quality · 48"}


@dataclass(frozen=True)
class RequestForm:
    """The components that make up a request."""

    caption: gr.Textbox
    preset: gr.Radio
    width: gr.Slider
    height: gr.Slider
    seed: gr.Number

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order of `read_request`'s arguments."""
        return [self.caption, self.preset, self.width, self.height, self.seed]


def build_form(traits: Traits) -> RequestForm:
    """Adds the form to the current Blocks context."""
    caption = gr.Textbox(
        EXAMPLES[0].caption,
        label="Caption",
        info="Plain text, or a JSON caption in Ideogram's form",
        lines=9,
        max_lines=14,
        elem_id="q8-caption",
    )
    gr.Examples(
        [[example.caption] for example in EXAMPLES],
        caption,
        label="Examples",
        example_labels=[example.label for example in EXAMPLES],
        api_visibility="private",
        elem_id="q8-examples",
    )
    choices = [(_PRESET_TITLES.get(name, name), name) for name in PRESETS]
    preset = gr.Radio(choices, value="default-20", label="Preset · steps", elem_id="q8-preset")
    with gr.Row():
        width, height = (
            gr.Slider(
                traits.min_side, traits.max_side, side, step=SIDE_MULTIPLE, label=f"{label}, px", min_width=180, buttons=[]
            )
            for label, side in zip(("Width", "Height"), traits.default_size, strict=True)
        )
    with gr.Row(elem_classes="q8-seed"):
        seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=120, elem_id="q8-seed")
        roll = gr.Button("Roll", elem_id="q8-roll", scale=0, min_width=104)
    roll.click(roll_seed, None, seed, api_name="roll_seed", queue=False)
    return RequestForm(caption, preset, width, height, seed)


def roll_seed() -> int:
    """A random seed."""
    return random.randint(0, MAX_SEED)


def variant_cards(variants: list[Variant], chosen: str, label: str, elem_id: str, *, columns: int) -> gr.Radio:
    """A radio group that looks like cards, in two or four columns; two such groups share a row where there is room."""
    classes = ["q8-cards", *(["q8-two"] if columns == 2 else [])]
    return gr.Radio(card_choices(variants), value=chosen, label=label, elem_classes=classes, elem_id=elem_id, min_width=300)


def card_choices(variants: list[Variant]) -> list[tuple[str, str]]:
    """(what the card says, the variant's name) of each variant."""
    return [(fragments.card(variant), variant.name) for variant in variants]


def read_request(caption: str, preset: str, width: float, height: float, seed: float | None) -> Request:
    """The request that the form describes. Raises RequestError."""
    return Request(to_caption(caption), int(seed or 0), preset, int(width), int(height))


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Shows this package's own errors, and a full disk, as messages; anything else is a defect and shows as such."""
    try:
        yield
    except (IdeogramQ8Error, OSError) as error:
        raise gr.Error(html.escape(str(error)), title="That did not work") from error
