"""A caption as the Caption tab edits it: frozen values, changed by `dataclasses.replace`; text in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ideogram_q8 import captions as caption
from ideogram_q8.captions.repair import repair
from ideogram_q8.errors import CaptionError
from ideogram_q8.ui.parts.boxes import MAX_ELEMENTS, Box

Style = Literal["none", "photo", "art_style"]
NEW_BOX: Box = (350, 350, 650, 650)
_APART = 40
"""Thousandths of the picture between boxes of elements that are added one after the other."""


@dataclass(frozen=True)
class Element:
    """A thing or a text in the picture; `text` counts for texts only."""

    kind: Literal["obj", "text"]
    desc: str = ""
    text: str = ""
    bbox: Box | None = None
    palette: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the canvas writes into its box."""
        return self.text or self.desc or "text" if self.kind == "text" else self.desc or "object"


@dataclass(frozen=True)
class Draft:
    """A whole caption. `manner` is the photo or art style, as `style` says; with style "none" the four below it count for nothing."""

    description: str = ""
    background: str = ""
    style: Style = "none"
    aesthetics: str = ""
    lighting: str = ""
    medium: str = ""
    manner: str = ""
    palette: tuple[str, ...] = ()
    elements: tuple[Element, ...] = ()

    def with_element(self, index: int, **changes: Any) -> Draft:
        """With one element changed; the same draft where there is no such element."""
        if not 0 <= index < len(self.elements):
            return self
        changed = replace(self.elements[index], **changes)
        return replace(self, elements=(*self.elements[:index], changed, *self.elements[index + 1 :]))

    def with_boxes(self, boxes: Sequence[Box | None]) -> Draft:
        """With the boxes of all elements; the same draft where their number differs (the page was behind)."""
        if len(boxes) != len(self.elements):
            return self
        return replace(self, elements=tuple(replace(e, bbox=box) for e, box in zip(self.elements, boxes, strict=True)))

    def added(self, element: Element) -> Draft:
        """With another element at the end, whose box covers none of the others exactly. Raises CaptionError: there are too many."""
        if len(self.elements) >= MAX_ELEMENTS:
            raise CaptionError(f"the caption has {MAX_ELEMENTS} elements, which is as many as can be edited here")
        taken = {each.bbox for each in self.elements}
        while element.bbox is not None and element.bbox in taken and max(element.bbox[2:]) + _APART <= 1000:
            top, left, bottom, right = element.bbox
            element = replace(element, bbox=(top + _APART, left + _APART, bottom + _APART, right + _APART))
        return replace(self, elements=(*self.elements, element))

    def without(self, index: int) -> Draft:
        """Without one element."""
        return replace(self, elements=tuple(element for i, element in enumerate(self.elements) if i != index))


@dataclass(frozen=True)
class Held:
    """A draft that is being edited, and the texts that a page may show meanwhile: its own first, then those of the edits before it."""

    draft: Draft
    texts: tuple[str, ...]

    def edited(self, found: Draft) -> Held:
        """After an edit."""
        return Held(found, (write(found), *self.texts)[:_ON_THEIR_WAY])


_ON_THEIR_WAY = 16
"""Edits that a page may be behind."""


def hold(text: str, held: Held | None) -> Held:
    """What an edit of a page that shows `text` changes: the draft that is held, or the one in the text where that is another one.

    Raises:
        CaptionError: the text cannot be read, so nothing may take its place.
    """
    return held if held is not None and text in held.texts else Held(read(text)[0], (text,))


def read(text: str) -> tuple[Draft, list[str]]:
    """The draft of what a person typed, and what had to be mended for it; a plain sentence becomes its description.

    Raises:
        CaptionError: it is no caption, or one that cannot be mended; the faults that are left are named.
    """
    if not text.strip():
        return Draft(), []
    reading = caption.understand(text)
    if reading.caption is None:
        raise CaptionError(f"caption is not valid: {'; '.join(map(str, reading.left))}")
    value, done = repair(caption.parse(reading.caption))  # boxes without area, which are sound, cannot be drawn
    return _draft(value), list(map(str, [*reading.taken, *reading.done, *done]))


def _draft(value: dict[str, Any]) -> Draft:
    """The draft of a sound caption."""
    body, style = value["compositional_deconstruction"], value.get("style_description")
    if len(body["elements"]) > MAX_ELEMENTS:
        raise CaptionError(
            f"the caption has {len(body['elements'])} elements; expected at most {MAX_ELEMENTS} to edit them here"
        )
    plain = Draft(value.get("high_level_description", ""), body["background"], elements=tuple(map(_element, body["elements"])))
    if style is None:
        return plain
    kind: Style = "photo" if "photo" in style else "art_style"
    return replace(
        plain,
        style=kind,
        aesthetics=style["aesthetics"],
        lighting=style["lighting"],
        medium=style["medium"],
        manner=style[kind],
        palette=tuple(style.get("color_palette", ())),
    )


def _element(value: dict[str, Any]) -> Element:
    top_left_bottom_right = value.get("bbox")
    box: Box | None = tuple(top_left_bottom_right) if top_left_bottom_right else None
    return Element(value["type"], value["desc"], value.get("text", ""), box, tuple(value.get("color_palette", ())))


def write(draft: Draft) -> str:
    """The caption as JSON, an element to a line, short enough for the caption's box."""
    text = json.dumps(to_value(draft), ensure_ascii=False)
    return text.replace('"elements": [{', '"elements": [\n  {').replace('}, {"type"', '},\n  {"type"')


def to_value(draft: Draft) -> dict[str, Any]:
    """The caption's value, keys in the order of training; what is empty and may be absent is absent."""
    value: dict[str, Any] = {}
    if draft.description:
        value["high_level_description"] = draft.description
    if draft.style != "none":
        value["style_description"] = _style_value(draft)
    elements = [_element_value(element) for element in draft.elements]
    return value | {"compositional_deconstruction": {"background": draft.background, "elements": elements}}


def _style_value(draft: Draft) -> dict[str, Any]:
    value: dict[str, Any] = {"aesthetics": draft.aesthetics, "lighting": draft.lighting}
    if draft.style == "photo":
        value |= {"photo": draft.manner, "medium": draft.medium}
    else:
        value |= {"medium": draft.medium, "art_style": draft.manner}
    return value | ({"color_palette": list(draft.palette)} if draft.palette else {})


def _element_value(element: Element) -> dict[str, Any]:
    value: dict[str, Any] = {"type": element.kind}
    if element.bbox is not None:
        value["bbox"] = list(element.bbox)
    if element.kind == "text":
        value["text"] = element.text
    value["desc"] = element.desc
    return value | ({"color_palette": list(element.palette)} if element.palette else {})
