"""What endpoints take: every argument is looked at before Gradio or this app uses it, by the component that it stands for.

Gradio 6.31 checks choices and a slider's range and no more: another kind of value ends as an unhandled exception, of which the client
hears status 500. `check` covers every component by its class, so a new endpoint is covered without a line of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from ideogram_q8.captions import MAX_CHARACTERS
from ideogram_q8.errors import RequestError

LARGEST_NUMBER = 2**53
"""Every JSON reader keeps integers up to it exactly."""
MAX_ITEMS = 64
MAX_NAME = 256
MAX_VALUE = 64 * 2**10
"""Characters of a scripted component's value as JSON: 64 boxes with their labels."""


def check(component: Any, value: object) -> object:
    """The value as the component's own code expects it. Raises RequestError: it is of another kind, too long or out of range."""
    if component.stateful:  # the server's own value counts, whatever was sent
        return None
    name = str(getattr(component, "label", None) or getattr(component, "elem_id", None) or "an argument")
    for kinds, read in _READERS:
        if isinstance(component, kinds):
            return read(component, name, value)
    raise RequestError(f"{name} takes no value from a request")


def check_event(data: object) -> None:
    """Looks at what an event says about itself. Raises RequestError: it is no selection, as all events with data are here."""
    if not isinstance(data, dict) or not _is_index(data.get("index")) or not _is_short(data.get("value")):
        raise RequestError("the event is not a selection; reload the page")


def _is_index(index: object) -> bool:
    whole = index if isinstance(index, list) and len(index) == 2 else [index]
    return all(type(each) is int and abs(each) <= LARGEST_NUMBER for each in whole)


def _is_short(value: object) -> bool:
    return len(json.dumps(value)) <= MAX_VALUE


def _text(component: Any, name: str, value: object, most: int = MAX_CHARACTERS) -> str:
    if value is None:
        return ""
    if type(value) is int and getattr(component, "max_lines", None) == 1:
        value = str(value)  # a seed, which programs give as a number
    if not isinstance(value, str):
        raise RequestError(f"{name} is {_kind(value)}; expected text")
    if len(value) > most:
        raise RequestError(f"{name} has {len(value)} characters; expected at most {most}: shorten it")
    if not value.isascii() and value != value.encode("utf-8", "replace").decode():
        raise RequestError(f"{name} holds half of a UTF-16 surrogate pair, expected valid Unicode")
    return value


def _number(component: Any, name: str, value: object) -> object:
    if value is None and not isinstance(component, gr.Slider):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_float(value)):
        raise RequestError(f"{name} is {_kind(value)}; expected a number")
    low = -LARGEST_NUMBER if component.minimum is None else component.minimum
    high = LARGEST_NUMBER if component.maximum is None else component.maximum
    if not low <= value <= high:
        raise RequestError(f"{name} is {float(value):.12g}; expected {low} to {high}")
    return value


def _float(value: float) -> float:
    """Converts to float64; infinite for an integer that float64 has no room for."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _switch(_component: Any, name: str, value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{name} is {_kind(value)}; expected true or false")
    return bool(value)


def _choice(component: Any, name: str, value: object) -> object:
    if value is None and component.value is not None:
        raise RequestError(f"{name} is not chosen; choose one")
    if value is None or (type(value) is int and abs(value) <= LARGEST_NUMBER):
        return value
    return _text(None, name, value, MAX_NAME)


def _choices(_component: Any, name: str, value: object) -> list[str]:
    found = [] if value is None else value
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise RequestError(f"{name} is {_kind(value)}; expected a list of at most {MAX_ITEMS} names")
    if not all(isinstance(each, str) for each in found):
        raise RequestError(f"{name} holds something else than text; expected names")
    return [_text(None, name, each, MAX_NAME) for each in found]


def _file(_component: Any, name: str, value: object) -> object:
    """An uploaded file; of what else was sent, such as an address to fetch it from, nothing."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise RequestError(f"{name} is {_kind(value)}; expected an uploaded file")
    title = value.get("orig_name")
    found = {"path": _text(None, name, value["path"], 4096), "meta": {"_type": "gradio.FileData"}}
    return found | ({"orig_name": _text(None, name, title, MAX_NAME)} if isinstance(title, str) else {})


def _value(_component: Any, name: str, value: object) -> object:
    """Passes on the JSON value of a scripted component, whose own reader understands it; refuses one that is too long or too deep."""
    try:
        length = len(json.dumps(value))
    except RecursionError:
        raise RequestError(f"{name} is nested too deeply") from None
    if length > MAX_VALUE:
        raise RequestError(f"{name} has {length} characters; expected at most {MAX_VALUE}")
    return value


def _kept(_component: Any, _name: str, value: object) -> object:
    """Passes on what the browser's store holds, a secret or a form as JSON; None for what this app cannot have put there."""
    return value if isinstance(value, str) and len(value) <= MAX_VALUE + MAX_CHARACTERS else None


def _parameter(component: Any, name: str, value: object) -> object:
    """Checks an argument of an endpoint without a page (`gr.api`) by the JSON schema of its annotation; None gives its default."""
    schema: Mapping[str, Any] = component.api_info()
    kinds = {each.get("type") for each in schema.get("oneOf", [schema])}
    if value is None and ("null" in kinds or component.value is not None):
        return component.value
    name = f"the {name} argument"
    if "boolean" in kinds and isinstance(value, bool):
        return value
    if "integer" in kinds and type(value) is int and abs(value) <= LARGEST_NUMBER:
        return value
    if "string" in kinds and isinstance(value, str):
        return _text(None, name, value)
    expected = " or ".join(sorted(str(kind) for kind in kinds - {"null"}))
    raise RequestError(
        f"{name} is {_kind(value)}; expected {expected}{f' up to {LARGEST_NUMBER}' if 'integer' in kinds else ''}"
    )


def _kind(value: object) -> str:
    """A value in words, none of them longer than a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.12g}" if math.isfinite(_float(value)) else "a number without end"
    return {str: "text", list: "a list", dict: "an object", type(None): "nothing"}.get(type(value), "something else")


_READERS: tuple[tuple[Any, Callable[[Any, str, object], object]], ...] = (
    (Api, _parameter),
    (gr.Textbox, _text),
    ((gr.Slider, gr.Number), _number),
    (gr.Checkbox, _switch),
    (gr.CheckboxGroup, _choices),
    ((gr.Radio, gr.Dropdown), _choice),
    (gr.File, _file),
    (gr.BrowserState, _kept),
    (gr.HTML, _value),
)
"""The first that fits counts."""
