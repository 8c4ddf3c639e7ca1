"""The captions to calibrate with: the project's own by their name, or read from a file.

A file is a JSON list, or has a caption a line; a caption is a JSON object, a JSON string or a plain sentence. A file may also be one
structured caption of many lines. Each is checked as `generate` checks it, before any work begins.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from ideogram_q8.captions import MAX_CHARACTERS, accept, canonical, suite, unwrap
from ideogram_q8.errors import CaptionError, RequestError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.strict_json import parse_json

MAX_BYTES = 1 << 26
"""Largest caption file that is read, 64 MiB: tens of thousands of long captions."""
NAMED = {"pocket": "pocket-calibration", "ideogram-calibration": "ideogram-calibration"}
"""What `--captions` may say instead of a file, and the suite that it means."""
_NOT_CAPTIONS = re.compile(r"//|(```|~~~)\w{0,20}$")
"""Lines of a file that are comments or the marks of a code fence."""
_log = logging.getLogger(__name__)


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
            caption, noted = accept(text)
        except CaptionError as error:
            offer = "; `python -m ideogram_q8 caption FILE --mend` mends one caption" if error.is_mendable else ""
            raise CaptionError(f"{path}: {where}: {error}{offer}", error.problems) from None
        for finding in noted:
            if finding.kind != "warning":
                _log.warning("%s: %s: %s", path, where, finding)
        if caption in found:
            raise RequestError(f"{path}: {where} repeats {found[caption]}; keep one of them")
        found[caption] = where
    if not found:
        raise RequestError(f"{path} has no captions; expected one a line, or a JSON list")
    return tuple(found)


def _read_text(path: Path) -> str:
    try:
        with file_kinds.open_regular(path) as file:
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
    text = "\n".join(_kept(path, text.split("\n")))
    if text.lstrip().startswith("["):
        for number, value in enumerate(parse_json(text, str(path), RequestError), 1):
            if not isinstance(value, str | dict):
                raise RequestError(f"{path}: item {number} is {str(value)[:60]!r}; expected a caption object or a sentence")
            yield f"item {number}", canonical(value) if isinstance(value, dict) else value
        return
    if _is_one(text):
        yield "the only caption", text
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _unquoted(line.strip())


def _kept(path: Path, lines: list[str]) -> Iterator[str]:
    """The lines, with comments and fences empty."""
    for number, line in enumerate(lines, 1):
        is_kept = _NOT_CAPTIONS.match(line.strip()) is None
        if not is_kept:
            _log.warning("%s: line %d is left out: %s", path, number, line.strip()[:60])
        yield line if is_kept else ""


def _is_one(text: str) -> bool:
    """Whether the lines are one structured caption, of which some are none by themselves."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or len(text) > MAX_CHARACTERS or all(map(_is_accepted, lines)):
        return False
    try:
        return isinstance(unwrap(text)[0], dict)
    except CaptionError:
        return False


def _is_accepted(text: str) -> bool:
    try:
        accept(text)
    except CaptionError:
        return False
    return True


def _unquoted(line: str) -> str:
    """The text of a JSON string; any other line as it is, be it a JSON object or a sentence that starts with a quotation mark."""
    try:
        value = json.loads(line) if line.startswith('"') else line
    except ValueError:
        return line
    return str(value)
