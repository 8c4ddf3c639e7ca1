"""Small JSON files of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ideogram_q8.errors import SourceError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.strict_json import parse_json

_LIMIT = 4 << 20
"""Bytes. The index of the official checkpoint has 30 kB."""


def read_json(path: Path, limit: int = _LIMIT) -> Any:
    """The value of a JSON file of at most `limit` bytes, with a byte order mark or without.

    Raises:
        SourceError: missing, too large or not strict JSON.
    """
    try:
        with file_kinds.open_regular(path) as file:
            content = file.read(limit + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; expected a checkpoint in the official folder tree") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not a text file; expected JSON") from None
    if len(content) > limit:
        raise SourceError(f"{path} has more than {limit} bytes, expected a small JSON file")
    kind = file_kinds.of(content[: file_kinds.HEAD])
    if kind is not None and "JSON" not in kind.what:
        raise SourceError(f"{path} is {kind.what}; expected JSON: {kind.remedy}")
    return parse_json(text, str(path), SourceError)
