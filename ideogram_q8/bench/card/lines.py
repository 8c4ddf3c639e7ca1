"""The lines of card.jsonl: what was measured, refused, missing, broken or late, each synced to the disk before the next one begins."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.strict_json import check_version, decode, parse_json

FILE = "card.jsonl"
FORMAT_VERSION = 1
_MOST_BYTES = 64 << 20
State = Literal["planned", "done", "wrong", "refused", "missing", "failed", "late", "kept"]
"""What became of a measurement:

    planned    a phase sets out to make the measurements that `CardLine.found` names
    done       it was made
    wrong      it was made, and what was found is not what it must be
    refused    a back end, a plan or this package gives a reason against it
    missing    a library that it needs is not installed
    failed     something raised, or its process ended
    late       time ran out before it was made, or before all of a phase was
    kept       an earlier run into the same folder made it, so this one did not
"""


@dataclass(frozen=True)
class CardLine:
    """One measurement of a phase, or the phase itself where `name` is empty.

    `run` is when the run began, `at` when the line was written (UTC). `stack` are the versions that it ran on. `found` is plain JSON.
    """

    format_version: int
    run: str
    at: str
    stack: str
    phase: str
    name: str
    state: State
    seconds: float
    reason: str
    found: Mapping[str, object]


def now() -> str:
    """The time in UTC; no two runs begin in one microsecond."""
    return dt.datetime.now(dt.UTC).isoformat()


def append(path: Path, line: CardLine) -> None:
    """Adds a line and syncs it. What a killed process left unfinished at the end of the file stays a line of its own."""
    text = json.dumps(asdict(line), ensure_ascii=False, allow_nan=False) + "\n"
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            text = text if file.read(1) == b"\n" else f"\n{text}"
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[list[CardLine], int]:
    """All lines in the order in which they were written, and how many are damaged; none where there is no file.

    Raises:
        RequestError: the file cannot be read, or is longer than one that `bench card` wrote.
    """
    if not path.exists():
        return [], 0
    try:
        with file_kinds.open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}; expected what `bench card` wrote") from None
    if len(content) > _MOST_BYTES:
        raise RequestError(f"{path} has more than {_MOST_BYTES >> 20} MiB; expected what `bench card` wrote")
    texts = content.decode("utf-8", errors="replace").splitlines()
    parsed = [_parse(text, f"{path}:{number}") for number, text in enumerate(texts, 1)]
    found = [line for line in parsed if line is not None]
    return found, len(parsed) - len(found)


def _parse(text: str, where: str) -> CardLine | None:
    """A line; None of what is damaged, as after a kill, or of another format."""
    try:
        value = parse_json(text, where, ArtifactError)
        check_version(value, FORMAT_VERSION, where, ArtifactError, "name another folder")
        return decode(CardLine, value, where, ArtifactError)
    except ArtifactError:
        return None


def plain(value: Any) -> Any:
    """A value as JSON can hold it: records as objects, numbers that are not finite as null, whatever else is unknown as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
