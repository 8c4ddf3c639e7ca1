"""What the tabs share: the caption, preset, size and seed on the left of the page, and the cards to pick variants."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ideogram_q8.builds.variants import Variant
from ideogram_q8.captions import accept
from ideogram_q8.errors import CaptionError, IdeogramQ8Error, printable
from ideogram_q8.model.architecture import MAX_GUIDANCE, MAX_STEPS, PRESETS, SIDE_MULTIPLE, Traits, custom_preset, preset
from ideogram_q8.ui.doors.limits import address_of
from ideogram_q8.ui.engine.examples import EXAMPLES
from ideogram_q8.ui.engine.jobs import Jobs
from ideogram_q8.ui.engine.measured import figures
from ideogram_q8.ui.engine.revisions import Revisions
from ideogram_q8.ui.engine.seeds import read_seed, roll_seed
from ideogram_q8.ui.engine.sizes import RATIOS, megapixels_range, size_of
from ideogram_q8.ui.engine.studio import Studio, warm_up
from ideogram_q8.ui.parts import fragments
from ideogram_q8.ui.parts.controls import PRIVATE

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request

CUSTOM = "custom"
_FOLDERS = re.compile(r"(?<![\w.:/<])/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path; what is left is a file's name."""
_LONGEST = 1000
_log = logging.getLogger(__name__)
_PRESET_TITLES = {
    "turbo-12": "Turbo · 12",
    "default-20": "Default · 20",
    "quality-48": "Quality · 48",
    "instant-8": "Instant · 8, no guidance",
    "fast-20": "Fast · 20, no guidance",
}
Fields = tuple[str, str, float, float, str | None, float, float]
"""Caption, preset, width, height, seed, steps, guidance: what `read_request` takes."""


@dataclass(frozen=True)
class RequestForm:
    """The components that make up a request."""

    caption: gr.Textbox
    preset: gr.Radio
    width: gr.Slider
    height: gr.Slider
    seed: gr.Textbox
    keep_seed: gr.Checkbox
    steps: gr.Slider
    guidance: gr.Slider
    stepped: list[Any]
    """The events after which the caption is an earlier text again, or a later one."""
    attempt: gr.Button
    """Compares the chosen builds on what the form says."""

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order of `read_request`'s arguments."""
        return [self.caption, self.preset, self.width, self.height, self.seed, self.steps, self.guidance]

    def filled(self, request: Request, caption: str | None = None) -> list[object]:
        """Values for `inputs` that make this request again; `caption` where it is to be shown another way."""
        own = preset(request.preset)
        chosen = request.preset if request.preset in PRESETS else CUSTOM
        guidance = gr.skip() if own.main_guidance is None else own.main_guidance
        return [caption or request.caption, chosen, request.width, request.height, str(request.seed), own.steps, guidance]


@dataclass(frozen=True)
class Desk:
    """What all tabs work with. `owner` is the browser's secret."""

    studio: Studio
    form: RequestForm
    owner: gr.State
    jobs: Jobs


@dataclass(frozen=True)
class Painter:
    """What the page, and other tabs, use of a tab that paints."""

    cards: gr.Radio | gr.CheckboxGroup
    finished: list[Any]
    """The events that come after its work, well or not."""


def build_form(traits: Traits) -> RequestForm:
    """Adds the form to the current Blocks context."""
    caption = gr.Textbox(
        EXAMPLES[0].caption,
        label="Caption",
        info="Plain text, or a JSON caption in Ideogram's form (the Caption tab builds one)",
        lines=9,
        max_lines=14,
        elem_id="q8-caption",
    )
    attempt = gr.Button("Try my caption · Ctrl+Enter", variant="primary", elem_id="q8-try")
    stepped = _build_revisions(caption)
    gr.Examples(
        [[example.caption] for example in EXAMPLES],
        caption,
        label="Examples",
        example_labels=[example.label for example in EXAMPLES],
        api_visibility="private",
        elem_id="q8-examples",
    )
    choices = [*((_PRESET_TITLES.get(name, name), name) for name in PRESETS), ("Custom", CUSTOM)]
    chosen = gr.Radio(choices, value="default-20", label="Preset · steps", elem_id="q8-preset")
    with gr.Row(visible=False) as custom:
        steps = gr.Slider(2, MAX_STEPS, 24, step=1, label="Steps", min_width=140, elem_id="q8-steps")
        guidance = gr.Slider(1, MAX_GUIDANCE, traits.guidance[0], step=0.1, label="Guidance", min_width=140, buttons=[])
    chosen.change(lambda name: gr.update(visible=name == CUSTOM), chosen, custom, api_visibility="private", queue=False)
    width, height = _build_size(traits)
    seed, keep = _build_seed()
    return RequestForm(caption, chosen, width, height, seed, keep, steps, guidance, stepped, attempt)


def _build_revisions(caption: gr.Textbox) -> list[Any]:
    """Undo and redo of whatever changed the caption's text: typing, the Caption tab, a template, an example, Expand, History."""
    with gr.Row():
        undo = gr.Button("Undo", size="sm", min_width=80, elem_id="q8-caption-undo")
        redo = gr.Button("Redo", size="sm", min_width=80, elem_id="q8-caption-redo")
    known = gr.State(Revisions(EXAMPLES[0].caption))

    def see(text: str, revisions: Revisions | None) -> Revisions:
        return (revisions or Revisions()).seen(text)

    def step(way: Callable[[Revisions, str], Revisions]) -> Callable[[str, Revisions | None], tuple[str, Revisions]]:
        def stepped(text: str, revisions: Revisions | None) -> tuple[str, Revisions]:
            found = way(revisions or Revisions(), text)
            return found.now, found

        return stepped

    caption.change(see, [caption, known], known, **PRIVATE, trigger_mode="always_last")
    return [
        button.click(step(way), [caption, known], [caption, known], **PRIVATE)
        for button, way in ((undo, Revisions.undo), (redo, Revisions.redo))
    ]


def _build_size(traits: Traits) -> tuple[gr.Slider, gr.Slider]:
    low, high, usual = megapixels_range(traits)
    with gr.Row():
        ratio = gr.Dropdown(RATIOS, value="1:1", label="Shape", min_width=110, scale=1, elem_id="q8-ratio")
        area = gr.Slider(low, high, usual, step=low / 4, label="Megapixels", min_width=150, scale=2, buttons=[])
    with gr.Row():
        width, height = (
            gr.Slider(traits.min_side, traits.max_side, side, step=SIDE_MULTIPLE, label=label, min_width=130, buttons=[])
            for label, side in zip(("Width", "Height"), traits.default_size, strict=True)
        )
    for component in (ratio, area):
        component.input(
            lambda shape, size: size_of(shape, size, traits),
            [ratio, area],
            [width, height],
            api_visibility="private",
            queue=False,
        )
    return width, height


def _build_seed() -> tuple[gr.Textbox, gr.Checkbox]:
    with gr.Row(elem_classes="q8-seed"):
        seed = gr.Textbox("7", label="Seed", max_lines=1, min_width=120, elem_id="q8-seed")
        roll = gr.Button("Roll", elem_id="q8-roll", scale=0, min_width=104)
    keep = gr.Checkbox(True, label="Keep the seed for the next picture", elem_id="q8-keep", container=False)
    roll.click(roll_seed, None, seed, api_name="roll_seed", queue=False)
    return seed, keep


def variant_cards(variants: Sequence[Variant], chosen: str, label: str, elem_id: str) -> gr.Radio:
    """A radio group that looks like cards."""
    return gr.Radio(card_choices(variants), value=chosen, label=label, elem_classes="q8-cards", elem_id=elem_id, min_width=300)


def many_variant_cards(variants: Sequence[Variant], chosen: Sequence[str], label: str, elem_id: str) -> gr.CheckboxGroup:
    """The same, for picking several."""
    return gr.CheckboxGroup(
        card_choices(variants), value=list(chosen), label=label, elem_classes="q8-cards", elem_id=elem_id, min_width=300
    )


def card_choices(variants: Sequence[Variant]) -> list[tuple[str, str]]:
    """(what the card says, the variant's name) of each variant, as long as nothing is known of the device."""
    return [(fragments.card(variant), variant.name) for variant in variants]


def full_choices(studio: Studio, width: float, height: float) -> list[tuple[str, str]]:
    """The same, with what a picture of this size takes and what was measured."""
    variants, size = studio.variants(), (int(width), int(height))
    known = figures(variants, studio.report)
    under_way = studio.stock.downloading
    fits = {v.name: studio.fit(v, size) or fragments.UNKNOWN for v in variants}
    return [(fragments.card(v, fits[v.name], known.get(v.name), under_way.get(v.name)), v.name) for v in variants]


def read_request(
    caption: str, chosen: str, width: float, height: float, seed: str | None, steps: float, guidance: float
) -> Request:
    """The request that the form describes. Raises RequestError."""
    warm_up()
    from ideogram_q8.runtime.generation.sampling import Request

    name = custom_preset(int(steps), guidance).name if chosen == CUSTOM else chosen
    return Request(_accepted(caption), read_seed(seed), name, int(width), int(height))


def _accepted(text: str) -> str:
    """The caption in what was typed; a notice says what it stood in. Raises CaptionError."""
    try:
        caption, found = accept(text)
    except CaptionError as error:
        if error.is_mendable:
            raise CaptionError(f"{error}; the Caption tab shows all faults and mends them", error.problems) from None
        raise
    for finding in found:
        if finding.kind != "warning":
            gr.Info(as_markup(str(finding)), title="Read as a caption")
    return caption


@dataclass(frozen=True)
class Visitor:
    """Whose request it is: its session, the owner of its history, and the account or address that is counted for limits."""

    session: str | None
    owner: str
    counted: str


def visitor_of(owner: str | None, request: gr.Request) -> Visitor:
    """The visitor of a request; `owner` is the browser's secret, where it has one."""
    return Visitor(request.session_hash, owner_of(owner, request), counted_as(request))


def owner_of(owner: str | None, request: gr.Request) -> str:
    """Whose history a request belongs to: the account, else the browser's secret, or the session of a program that has none."""
    return f"account-{request.username}" if request.username else owner or f"session-{request.session_hash}"


def counted_as(request: gr.Request) -> str:
    """The account, or the address."""
    return request.username or address_of(request.request)


def failed(error: Exception) -> str:
    """The state of a tab whose work ended with an error: what it was, where it is this package's to say, as `friendly_errors` does."""
    known = isinstance(error, (IdeogramQ8Error, OSError))
    return fragments.panel("failed", "That did not work", notes=[_told(error) if known else "The server's log says why."])


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Shows this package's own errors, and a full disk, as messages and in a line of the log; anything else is a defect and shows."""
    try:
        yield
    except (IdeogramQ8Error, OSError) as error:
        _log.warning("refused: %s", printable(" ".join(str(error).split())))
        raise refusal(error) from error


def refusal(error: Exception) -> gr.Error:
    """What the page and programs are told of an error that is this package's to say: a line, without the server's folders."""
    return gr.Error(as_markup(_told(error)), title="That did not work", print_exception=False)


def _told(error: Exception) -> str:
    words = f"the server's disk: {error.strerror or 'it cannot be used'}" if isinstance(error, OSError) else str(error)
    line = printable(" ".join(_FOLDERS.sub("", words).split()))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


def as_markup(text: str) -> str:
    """Text that the page shows as it is, where it takes markup, and that programs read as it is too: escapes what would be markup only."""
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
