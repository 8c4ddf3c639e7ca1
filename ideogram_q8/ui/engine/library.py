"""What was made and how people voted, in one SQLite file that lies outside the folder of pictures and is never served.

Pictures belong to an owner, a secret that each browser keeps: nobody sees another's. Votes belong to nobody and are counted together.
A connection lives for one call, so that any thread may call; the file is made when it is first needed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ideogram_q8.errors import ResourceError
from ideogram_q8.measure.preference import Ballot

_VERSION = 1
_TIMEOUT = 10.0
"""Seconds to wait for another process that writes."""
_TABLES = """
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, file TEXT NOT NULL, created REAL NOT NULL, favourite INTEGER NOT NULL DEFAULT 0,
    variant TEXT NOT NULL, metadata TEXT NOT NULL, words TEXT NOT NULL
);
CREATE INDEX pictures_of_owner ON pictures (owner, id);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY, created REAL NOT NULL, "left" TEXT NOT NULL, "right" TEXT NOT NULL, choice TEXT NOT NULL,
    category TEXT NOT NULL, left_sha256 TEXT NOT NULL, right_sha256 TEXT NOT NULL, caption TEXT NOT NULL, seed INTEGER NOT NULL,
    preset TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Entry:
    """A picture that was made. `file` is its name in the folder of pictures, `created` in seconds since 1970."""

    id: int
    file: str
    created: float
    favourite: bool
    variant: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Vote:
    """A ballot, and what was looked at: artifacts by their sha256."""

    ballot: Ballot
    left_sha256: str
    right_sha256: str
    caption: str
    seed: int
    preset: str
    created: float = 0.0


class Library:
    """The file; `path`'s folder is made when missing."""

    def __init__(self, path: Path) -> None:
        """Raises ResourceError: the file is not this program's, or of a newer version of it."""
        self.path = path
        with self._open() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(_TABLES)
                database.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise ResourceError(f"{path} is of version {version}, expected {_VERSION}; move it away to start a new one")

    def add(self, owner: str, file: str, metadata: Mapping[str, Any]) -> int:
        """Enters a picture by its PNG metadata; returns its id."""
        row = (owner, file, time.time(), *_words(metadata))
        with self._open() as database:
            added = database.execute(
                "INSERT INTO pictures (owner, file, created, variant, metadata, words) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        return int(added.lastrowid or 0)

    def pictures(self, owner: str, search: str = "", *, favourites: bool = False, limit: int = -1) -> list[Entry]:
        """The owner's pictures that have every word of `search` in caption, variant, seed or preset; the newest first, -1: all."""
        words = search.casefold().split()
        where = " AND ".join(["owner = ?", *(["favourite = 1"] if favourites else []), *(["instr(words, ?) > 0"] * len(words))])
        with self._open() as database:
            rows = database.execute(
                f"SELECT id, file, created, favourite, variant, metadata FROM pictures WHERE {where} ORDER BY id DESC LIMIT ?",
                (owner, *words, limit),
            ).fetchall()
        return [Entry(i, file, at, bool(liked), variant, json.loads(text)) for i, file, at, liked, variant, text in rows]

    def set_favourite(self, owner: str, entry: int, favourite: bool) -> None:
        """Without effect on what is not the owner's."""
        with self._open() as database:
            database.execute("UPDATE pictures SET favourite = ? WHERE id = ? AND owner = ?", (favourite, entry, owner))

    def forget(self, owner: str, entry: int) -> None:
        """Removes the entry, not the file; without effect on what is not the owner's."""
        with self._open() as database:
            database.execute("DELETE FROM pictures WHERE id = ? AND owner = ?", (entry, owner))

    def remember(self, owner: str, entry: Entry) -> None:
        """Enters a forgotten entry again, as it was; without effect on one that is there."""
        row = (entry.id, owner, entry.file, entry.created, entry.favourite, *_words(entry.metadata))
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO pictures (id, owner, file, created, favourite, variant, metadata, words)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def vote(self, vote: Vote) -> None:
        """Enters a vote with the time of now."""
        values = _row(vote) | {"created": time.time()}
        names = ", ".join(f'"{name}"' for name in values)
        with self._open() as database:
            database.execute(f"INSERT INTO votes ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))

    def votes(self) -> list[Vote]:
        """All votes, the oldest first."""
        query = 'SELECT "left", "right", choice, category, left_sha256, right_sha256, caption, seed, preset, created FROM votes ORDER BY id'
        with self._open() as database:
            return [Vote(Ballot(*row[:4]), *row[4:]) for row in database.execute(query)]

    def export_votes(self) -> str:
        """All votes as a JSON list of objects; captions, which may be private, by their sha256."""
        rows = [_row(vote) for vote in self.votes()]
        for row in rows:
            row["caption_sha256"] = hashlib.sha256(row.pop("caption").encode()).hexdigest()
        return json.dumps(rows, ensure_ascii=False, indent=2)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_TIMEOUT)) as database, database:
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(f"{self.path}: {error}; check the disk, or move the file away to start a new one") from error


def _words(metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    """Variant, JSON, and what a search looks through."""
    variant = str(metadata["variant"])
    words = f"{metadata['caption']} {variant} {metadata['seed']} {metadata['preset']}".casefold()
    return variant, json.dumps(dict(metadata), ensure_ascii=False), words


def _row(vote: Vote) -> dict[str, Any]:
    values = asdict(vote)
    ballot: dict[str, Any] = values.pop("ballot")
    return ballot | values
