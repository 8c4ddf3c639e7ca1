"""Strict JSON: text to plain values, and plain values to frozen dataclasses by the types of their fields.

Strict means that an unknown key, a missing or repeated key, a wrong type or a number too large to compute with is an error
that names the key: these files vouch for gigabytes, so what is not understood must not be passed over. The caller says which
exception to raise, because the same fault is a SourceError in one file and an ArtifactError in another.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import types
import typing
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from ideogram_q8.errors import IdeogramQ8Error

T = TypeVar("T")
_Errors = type[IdeogramQ8Error]
_MARK = "\ufeff"
"""What Windows' editors and PowerShell put before UTF-8 text."""


def parse_json(text: str, where: str, error: _Errors) -> Any:
    """Standard JSON only: no NaN or Infinity, no repeated key, no number beyond float64's range, no half of a surrogate pair.

    A byte order mark before the value is skipped.

    Args:
        where: names the file in errors.

    Raises:
        error: the text is not that; the message has the key.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise error(f"{where}: key {key!r} is given twice")
            found[key] = value
        return found

    def refuse(constant: str) -> object:
        raise error(f"{where}: {constant} is not JSON")

    try:
        value = json.loads(text.removeprefix(_MARK), object_pairs_hook=unique, parse_constant=refuse)
        _check_numbers(value, where, error)
        _check_unicode(text, value, where, error)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON: {problem}") from None
    return value


def _check_numbers(value: object, where: str, error: _Errors) -> None:
    """json reads 1e999 as infinity and takes integers of thousands of digits; neither can be computed with."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_numbers(item, f"{where}: {key}", error)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_numbers(item, f"{where}[{i}]", error)
    elif isinstance(value, int | float) and not is_finite(value):
        raise error(f"{where} is {_describe(value)}, expected a number of at most {sys.float_info.max:.3g}")


def _check_unicode(text: str, value: object, where: str, error: _Errors) -> None:
    r"""json reads `"\ud800"` as a character that no file and no answer of a server can hold."""
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise error(f"{where}: holds half of a UTF-16 surrogate pair, expected valid Unicode") from None


def check_version(value: object, expected: int, where: str, error: _Errors, remedy: str) -> None:
    """Raises `error` if a parsed file says that it has another format version; a file that says none is left to `decode`."""
    version = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version != expected:
        raise error(f"{where}: format_version is {version}, expected {expected}; {remedy}")


def is_finite(number: float) -> bool:
    """Whether float64 can hold the number's magnitude: false for NaN, right for integers of any length."""
    return abs(number) <= sys.float_info.max


def decode(cls: type[T], value: object, where: str, error: _Errors) -> T:
    """A parsed JSON object as a frozen dataclass, by the types of its fields.

    Understands str, int, float, bool, None, Literal, tuples, mappings with text keys, `object`, dataclasses, and unions with
    None or of dataclasses. A whole number in a float's place stays an int, so that its text stays the same.

    Raises:
        error: a key is unknown or missing, a value has a wrong type, or the dataclass itself refuses it; the message has the
            path, as in `files[0]: size`.
    """
    if not isinstance(value, dict):
        raise error(f"{where}: got {_describe(value)}, expected an object")
    hints = _hints(typing.cast("Hashable", cls))
    names = _field_names(cls)
    for key in value:
        if key not in names:
            raise error(f"{where}: unknown key {key!r}; expected {', '.join(names)}")
    for name in names:
        if name not in value:
            raise error(f"{where}: key {name!r} is missing")
    fields = {name: _decode(hints[name], value[name], f"{where}: {name}", error) for name in names}
    try:
        return cls(**fields)
    except IdeogramQ8Error as problem:
        raise error(f"{where}: {problem}") from None


def _decode(hint: Any, value: object, where: str, error: _Errors) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, where, error)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, value, where, error)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return _decode_tuple(arguments, value, where, error)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}[{key!r}]", error) for key, item in value.items()}
    if hint is float and type(value) in (int, float):  # True is an int to isinstance
        return value
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise error(f"{where} is {_describe(value)}, expected {_expected(hint)}")


def _decode_union(arguments: tuple[Any, ...], value: object, where: str, error: _Errors) -> Any:
    """Decodes a value as that of several dataclasses which lacks the fewest of its keys."""
    if value is None and type(None) in arguments:
        return None
    first, *others = (argument for argument in arguments if argument is not type(None))
    if others and isinstance(value, dict):
        keys = set(value)
        first = min((first, *others), key=lambda kind: len(set(_field_names(kind)) - keys))
    return _decode(first, value, where, error)


def _decode_tuple(arguments: tuple[Any, ...], value: list[object], where: str, error: _Errors) -> tuple[Any, ...]:
    hints = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
    if len(hints) != len(value):
        raise error(f"{where} has {len(value)} values, expected {len(hints)}")
    return tuple(_decode(hint, item, f"{where}[{i}]", error) for i, (hint, item) in enumerate(zip(hints, value, strict=True)))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields; to look them up takes longer than all the rest."""
    return typing.get_type_hints(cls)


def _field_names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _describe(value: object) -> str:
    text = f"a number of {value.bit_length()} bits" if isinstance(value, int) and not is_finite(value) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _expected(hint: Any) -> str:
    names = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return "a list"
    return names.get(hint, "an object")
