"""A caption out of what it came in: fences, thinking, prose, quotation marks, lists of one, envelopes of an API, YAML.

What stood around it is named in a finding, whole. Where two captions could be meant, or a text looks like a caption and is none, it is
refused: such a text painted as a sentence would spend the encoder's tokens on brackets.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ideogram_q8.captions.findings import Finding, quoted, strings_in
from ideogram_q8.captions.json_form import check_length, decode, not_json, shown
from ideogram_q8.captions.keys import compact, is_caption, is_element, join, standard
from ideogram_q8.captions.notation import INVISIBLE, read_value
from ideogram_q8.errors import CaptionError

_MAX_LAYERS = 8
_MAX_TRIES = 200
"""Opening braces in prose at which a caption is looked for."""
_BLANK = INVISIBLE + " \t\r\n\f\v\u00a0\u3000\u2028\u2029"
_SAYS_CAPTION = ("jsonprompt", "structuredprompt", "magicprompt", "caption", "prompt")
"""Keys of an envelope, the first that is there counts; what these hold is a caption even where it is a plain sentence."""
_HOLDS = (*_SAYS_CAPTION, "result", "response", "output", "data", "choices", "message", "content", "text", "answer")
_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)
_BEGINS = re.compile(r"""\{\s{0,99}["'”][^"'”\n]{0,99}["'”]\s{0,9}:""")
"""How an object begins, other than a brace in prose."""
_LANGUAGE = re.compile(r"[\w+.-]{0,20}[ \t]*\n|(?:json[c5]?|ya?ml)\b", re.IGNORECASE)
_LOOKS = re.compile(
    r"(?:high[_-]?level[_-]?description|compositional[_-]?deconstruction|style[_-]?description)[\"'”]?\s{0,9}[:=]"
    r"|[\"'](?:elements|bbox|desc|background|colou?r_palette)[\"']\s{0,9}:",
    re.IGNORECASE,
)
_YAML = re.compile(
    r"^[ \t-]{0,9}[\"']?(?:high|style|composition|elements)[\w -]{0,30}[\"']?[ ]{0,9}:", re.IGNORECASE | re.MULTILINE
)


def unwrap(text: str) -> tuple[dict[str, Any] | str, list[Finding]]:
    """The object that is the caption, its rules not checked, or a plain sentence; and what was taken out for that.

    Raises:
        CaptionError: too long, empty, two captions, or what looks like a caption and is none.
    """
    check_length(text)
    found: list[Finding] = []
    value = _from_text(text, found, 0)
    if value == "":
        raise CaptionError("caption is empty; describe the picture in a sentence or give a JSON caption")
    return value, found


def looks_structured(text: str) -> bool:
    """Whether a text has keys of captions in it, or begins as JSON does."""
    return text.lstrip(_BLANK).startswith("{") or _LOOKS.search(text) is not None


def _from_text(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str:
    if layer > _MAX_LAYERS:
        raise CaptionError(f"caption is wrapped more than {_MAX_LAYERS} times; give it plain")
    bare = text.strip(_BLANK)
    problem: CaptionError | None = None
    try:
        value = _whole(bare, found, layer)
    except json.JSONDecodeError as error:
        value, problem = None, not_json(error)
    for step in (_without_thinking, _inside_fence, _inside_prose, _as_yaml):
        if value is None:
            value = step(bare, found, layer)
    if value is None and looks_structured(bare):
        raise problem or CaptionError(
            "caption looks like JSON or YAML with a caption's keys, and is none: correct it, or write a plain sentence"
        )
    if value is None:
        return text.lstrip("\ufeff").strip()
    if isinstance(value, dict) and set(text) & set(INVISIBLE) and len(text.strip()) > len(bare):
        found.append(Finding("", "taken out", "invisible characters around it are taken out"))
    return value


def _whole(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    """Where all of the text is one JSON value, or nearly. Raises JSONDecodeError: it starts with a brace and is none."""
    is_string = len(text) > 1 and text[0] == text[-1] == '"'
    if not (text.startswith(("{", "[")) or is_string):
        return None
    try:
        value, taken = read_value(text)
    except json.JSONDecodeError:
        if text.startswith("{"):
            raise
        return None
    inner: list[Finding] = []
    result = _from_value(value, inner, layer)
    if result is not None:
        found += [*taken, *inner]
    return result


def _from_value(value: object, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    if isinstance(value, str):
        return _from_string(value, found, layer)
    if isinstance(value, list):
        return _from_list(value, found, layer)
    if not isinstance(value, dict):
        raise CaptionError(f"caption is {shown(value)}; expected a JSON object with compositional_deconstruction")
    return value if is_caption(value) else _from_envelope(value, found, layer)


def _from_string(value: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    """A string that holds a caption; None for any other."""
    inner: list[Finding] = []
    result = _from_text(value, inner, layer + 1) if looks_structured(value) or value.lstrip(_BLANK)[:1] in '["`<' else None
    if not isinstance(result, dict):
        return None
    found += [Finding("", "taken out", "the caption stood in a quoted string"), *inner]
    return result


def _from_list(value: list[Any], found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    captions = [item for item in value if isinstance(item, dict) and (is_caption(item) or _held(item))]
    if len(value) == 1 and (captions or isinstance(value[0], str)) and layer < _MAX_LAYERS:
        found.append(Finding("", "taken out", "the caption stood in a list of one"))
        result = _from_value(value[0], found, layer + 1)
        return value[0] if result is None else result
    if value and not captions and all(map(is_element, value)):
        found.append(Finding("", "converted", "a list of elements is read as those of a caption"))
        return {"elements": value}
    if len(captions) > 1:
        raise CaptionError(f"the text holds {len(captions)} captions in a list; give one at a time")
    raise CaptionError(f"caption is {shown(value)}; expected a JSON object with compositional_deconstruction")


def _held(envelope: dict[str, Any]) -> list[str]:
    """The keys of an object that may hold a caption, the likeliest first."""
    by_name = {compact(key): key for key in envelope}
    return [by_name[name] for name in _HOLDS if name in by_name]


def _from_envelope(envelope: dict[str, Any], found: list[Finding], layer: int) -> dict[str, Any] | str:
    """The caption in an object of an API; any other object comes back as it is, for the linter to name its faults."""
    for key in _held(envelope) if layer < _MAX_LAYERS else ():
        inner: list[Finding] = []
        result = _content(key, envelope[key], inner, layer)
        if result is None:
            continue
        found.append(Finding("", "taken out", f"the caption stood under the key {quoted(key)}"))
        for other, item in envelope.items():
            if other != key:
                found.append(
                    Finding(
                        join("", other),
                        "left out",
                        f"left out, as it stands beside the caption: {quoted(item)}",
                        strings_in(item),
                    )
                )
        found += inner
        return result
    return envelope


def _content(key: str, item: object, inner: list[Finding], layer: int) -> dict[str, Any] | str | None:
    if isinstance(item, dict) and (is_caption(item) or _held(item)):
        result = _from_value(item, inner, layer + 1)
        return result if isinstance(result, str) or is_caption(result or {}) else None
    if isinstance(item, list) and item and all(is_element(each) or isinstance(each, dict) for each in item):
        return _from_list(item, inner, layer + 1)
    if not isinstance(item, str) or not item.strip(_BLANK):
        return None
    result = _from_text(item, inner, layer + 1)
    return result if isinstance(result, dict) or compact(key) in _SAYS_CAPTION else None


def _without_thinking(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    """Without what a language model wrote before its answer; its end may be marked alone."""
    begins, end = _THINKING.match(text), _THOUGHT.search(text)
    if begins is not None and end is None:
        raise CaptionError(
            f"caption begins with {begins[0]}, which nothing ends: the answer is cut off; give what comes after it"
        )
    if end is None or (begins is None and "{" in text[: end.start()]):
        return None
    thinking, rest = text[: end.start()][len(begins[0]) if begins else 0 :].strip(), text[end.end() :]
    if not rest.strip(_BLANK):
        raise CaptionError(f"caption ends with {end[0]}: only thinking, and no answer after it")
    found.append(Finding("", "taken out", f"thinking before the caption is taken out: {quoted(thinking)}", (thinking,)))
    return _from_text(rest, found, layer + 1)


def _inside_fence(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    mark = "```" if "```" in text else "~~~"
    parts = text.split(mark)
    blocks = [_LANGUAGE.sub("", part, count=1) if _LANGUAGE.match(part) else part for part in parts[1::2]]
    around = tuple(part.strip(_BLANK) for part in parts[0::2] if part.strip(_BLANK))
    if not blocks or len(blocks) > _MAX_TRIES:
        return None
    opened, problem = [], None
    for block in blocks:
        inner: list[Finding] = []
        try:
            opened.append((_from_text(block, inner, layer + 1), inner, block))
        except CaptionError as error:
            problem = error
    captions = [each for each in opened if isinstance(each[0], dict)]
    if len(captions) > 1:
        raise CaptionError(f"the text holds {len(captions)} captions in fences; give one at a time")
    if not captions and (around or len(blocks) > 1 or problem is not None):
        if problem is not None:
            raise problem
        return None
    value, inner, used = (captions or opened)[0]
    around += tuple(block.strip() for block in blocks if block is not used and block.strip())
    said = f" with the text around it: {quoted(' … '.join(around))}" if around else ""
    found += [Finding("", "taken out", f"a code fence is taken out{said}", around), *inner]
    return value


def _inside_prose(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    """The one object in the text that is a caption, or holds one."""
    spans = _objects(text)
    if len(spans) > 1:
        raise CaptionError(f"the text holds {len(spans)} captions; give one at a time")
    taken: list[Finding] = []
    value: object
    if spans:
        value, start, end = spans[0]
    else:  # nearly JSON, so where it ends is not known but by the last brace
        start, end = text.find("{"), text.rfind("}") + 1
        if start < 0 or end <= start or (start == 0 and end == len(text)):
            return None
        try:
            value, taken = read_value(text[start:end])
        except json.JSONDecodeError:
            return None
    inner: list[Finding] = []
    result = _from_value(value, inner, layer + 1)
    if not isinstance(result, dict) or not is_caption(result):
        return None
    around = tuple(part.strip(_BLANK) for part in (text[:start], text[end:]) if part.strip(_BLANK))
    said = f"the text around the caption is taken out: {quoted(' … '.join(around))}"
    found += [Finding("", "taken out", said, around), *taken, *inner]
    return result


def _objects(text: str) -> list[tuple[dict[str, Any], int, int]]:
    """The JSON objects in a text, outermost only, that are captions or may hold one; and where each begins and ends."""
    spans: list[tuple[dict[str, Any], int, int]] = []
    start, tries = text.find("{"), 0
    while start >= 0 and tries < _MAX_TRIES:
        tries += 1
        try:
            value, end = decode(text, start)
        except json.JSONDecodeError:
            if _BEGINS.match(text, start):
                return []  # broken, and what stands in it is a part of a caption at most
            end = start + 1
        else:
            if isinstance(value, dict) and (is_caption(value) or _held(value)):
                spans.append((value, start, end))
        start = text.find("{", end)
    return spans


def _as_yaml(text: str, found: list[Finding], layer: int) -> dict[str, Any] | str | None:
    if _YAML.search(text) is None or text.startswith("{"):
        return None
    from ideogram_q8.captions import yaml_form

    try:
        value, comments = yaml_form.load(text)
    except CaptionError:
        if looks_structured(text):
            raise
        return None
    inner: list[Finding] = []
    if not isinstance(value, list | dict) or (isinstance(value, dict) and not (is_caption(value) or _held(value))):
        return None
    if isinstance(value, dict) and not looks_structured(text) and not any(map(_has_elements, value.items())):
        return None  # a sentence such as `Style: flat`
    result = _from_value(value, inner, layer + 1)
    if not isinstance(result, dict):
        return None
    taken = [Finding("", "taken out", f"the comment {quoted(comment)} is taken out", (comment,)) for comment in comments]
    found += [Finding("", "converted", "YAML is read as JSON"), *taken, *inner]
    return result


def _has_elements(pair: tuple[object, object]) -> bool:
    key, value = pair
    return standard(key, ("elements",)) is not None and isinstance(value, list) and any(map(is_element, value))
