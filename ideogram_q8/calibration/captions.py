"""The captions to calibrate with: the project's own by their name, or read from a file.

A file is a JSON list, or has a caption a line; a caption is a JSON object, a JSON string or a plain sentence. Each is checked as
`generate` checks it, before any work begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ideogram_q8.caption import canonical, to_caption
from ideogram_q8.errors import CaptionError, RequestError
from ideogram_q8.evaluation import suite
from ideogram_q8.strict_json import parse_json

MAX_BYTES = 1 << 26
"""Largest caption file that is read, 64 MiB: tens of thousands of long captions."""
NAMED = {"pocket": "pocket-calibration", "ideogram-calibration": "ideogram-calibration"}
"""What `--captions` may say instead of a file, and the suite that it means."""


def named_captions(name: str) -> tuple[str, ...]:
    """The captions of a name in `NAMED`; evaluation measures with none of them."""
    return tuple(case.caption for case in suite.get(NAMED[name]).cases)


def read_captions(path: Path) -> tuple[str, ...]:
    """The captions of a file as canonical text, in its order.

    Raises:
        RequestError: the file cannot be read, is too large, is not UTF-8, or has no captions or one twice.
        CaptionError: a caption is not valid; names its place.
    """
    found: dict[str, str] = {}
    for where, text in _items(path, _read_text(path)):
        try:
            caption = to_caption(text)
        except CaptionError as error:
            raise CaptionError(f"{path}: {where}: {error}") from None
        if caption in found:
            raise RequestError(f"{path}: {where} repeats {found[caption]}; keep one of them")
        found[caption] = where
    if not found:
        raise RequestError(f"{path} has no captions; expected one a line, or a JSON list")
    return tuple(found)


def _read_text(path: Path) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):  # a FIFO would wait
        raise RequestError(f"{path} is no regular file; expected a file with a caption a line, or a JSON list")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}; expected a file with a caption a line, or a JSON list") from None
    if len(content) > MAX_BYTES:
        raise RequestError(f"{path} is larger than {MAX_BYTES >> 20} MiB; split the captions and merge the statistics")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text; save the captions as UTF-8") from None


def _items(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Place and text of each caption, unchecked."""
    if text.lstrip().startswith("["):
        for number, value in enumerate(parse_json(text, str(path), RequestError), 1):
            if not isinstance(value, str | dict):
                raise RequestError(f"{path}: item {number} is {str(value)[:60]!r}; expected a caption object or a sentence")
            yield f"item {number}", canonical(value) if isinstance(value, dict) else value
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _unquoted(line.strip())


def _unquoted(line: str) -> str:
    """The text of a JSON string; any other line as it is, be it a JSON object or a sentence that starts with a quotation mark."""
    try:
        value = json.loads(line) if line.startswith('"') else line
    except ValueError:
        return line
    return str(value)
