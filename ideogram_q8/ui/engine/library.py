"""What was made and how people voted, in one SQLite file that lies outside the folder of pictures and is never served.

Pictures belong to an owner, a secret that each browser keeps, or an account: nobody sees another's, and the file has the owner's sha256
alone. Votes belong to nobody and are counted together.
A connection lives for one call, so that any thread may call; the file is made when it is first needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.measure.preference import Ballot
from ideogram_q8.ui.doors.private import PRIVATE_FILE

_VERSION = 2
_FIRST = 1
"""The version whose owners were secrets in plain text, and whose votes named their captions alone."""
MOST_WORDS, MOST_SEARCH = 32, 500
"""Words and characters of a search: each word is a term of the query."""
MOST_FOUND = 1000
_TIMEOUT = 10.0
"""Seconds to wait for another process that writes."""
_TABLES = """
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, file TEXT NOT NULL, created REAL NOT NULL, favourite INTEGER NOT NULL DEFAULT 0,
    variant TEXT NOT NULL, metadata TEXT NOT NULL, words TEXT NOT NULL
);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY, created REAL NOT NULL, "left" TEXT NOT NULL, "right" TEXT NOT NULL, choice TEXT NOT NULL,
    category TEXT NOT NULL, left_sha256 TEXT NOT NULL, right_sha256 TEXT NOT NULL, caption TEXT NOT NULL, seed INTEGER NOT NULL,
    preset TEXT NOT NULL, caption_sha256 TEXT NOT NULL
);
"""
_INDEXES = """
CREATE INDEX pictures_of_owner ON pictures (owner, id);
CREATE INDEX files_of_owner ON pictures (owner, file);
CREATE INDEX ballots ON votes ("left", "right", choice, category);
CREATE INDEX votes_of_caption ON votes (caption);
"""
"""What a page asks for is found without reading rows, which hold captions of many kilobytes."""
_FROM_FIRST = """
DROP INDEX pictures_of_owner;
ALTER TABLE votes ADD COLUMN caption_sha256 TEXT NOT NULL DEFAULT '';
UPDATE votes SET caption_sha256 = sha256(caption);
UPDATE pictures SET owner = sha256(owner);
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
            if version in (0, _FIRST):
                database.create_function("sha256", 1, _sha256, deterministic=True)
                changes = _FROM_FIRST if version else _TABLES
                database.executescript(f"BEGIN; {changes} {_INDEXES} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise ResourceError(f"{path} is of version {version}, expected {_VERSION}; move it away to start a new one")

    def add(self, owner: str, file: str, metadata: Mapping[str, Any]) -> int:
        """Enters a picture by its PNG metadata; returns its id."""
        row = (_sha256(owner), file, time.time(), *_words(metadata))
        with self._open() as database:
            added = database.execute(
                "INSERT INTO pictures (owner, file, created, variant, metadata, words) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        return int(added.lastrowid or 0)

    def pictures(self, owner: str, search: str = "", *, favourites: bool = False, limit: int = -1) -> list[Entry]:
        """The owner's pictures that have every word of `search` in caption, variant, seed or preset; the newest first, -1: all.

        Raises:
            RequestError: the search is too long.
        """
        words = search.casefold().split()
        if len(search) > MOST_SEARCH or len(words) > MOST_WORDS:
            raise RequestError(
                f"the search is too long; expected at most {MOST_WORDS} words of {MOST_SEARCH} characters together"
            )
        where = " AND ".join(["owner = ?", *(["favourite = 1"] if favourites else []), *(["instr(words, ?) > 0"] * len(words))])
        with self._open() as database:
            rows = database.execute(
                f"SELECT id, file, created, favourite, variant, metadata FROM pictures WHERE {where} ORDER BY id DESC LIMIT ?",
                (_sha256(owner), *words, limit),
            ).fetchall()
        return [_entry(row) for row in rows]

    def find(self, owner: str, entry: int) -> Entry | None:
        """One of the owner's pictures; None where the owner has none of that id."""
        with self._open() as database:
            row = database.execute(
                "SELECT id, file, created, favourite, variant, metadata FROM pictures WHERE id = ? AND owner = ?",
                (entry, _sha256(owner)),
            ).fetchone()
        return None if row is None else _entry(row)

    def files(self, owner: str) -> list[str]:
        """Names of the files of all the owner's pictures."""
        with self._open() as database:
            rows = database.execute("SELECT file FROM pictures WHERE owner = ?", (_sha256(owner),))
            return [file for (file,) in rows]

    def set_favourite(self, owner: str, entry: int, favourite: bool) -> None:
        """Without effect on what is not the owner's."""
        with self._open() as database:
            database.execute("UPDATE pictures SET favourite = ? WHERE id = ? AND owner = ?", (favourite, entry, _sha256(owner)))

    def forget(self, owner: str, entry: int) -> None:
        """Removes the entry, not the file, and its caption from votes, which keep its sha256; without effect on what is not the owner's."""
        found = self.find(owner, entry)
        if found is not None:
            with self._open() as database:
                database.execute("DELETE FROM pictures WHERE id = ?", (entry,))
                database.execute("UPDATE votes SET caption = '' WHERE caption = ?", (str(found.metadata["caption"]),))

    def forget_all(self, owner: str) -> None:
        """Does the same for all of the owner's entries."""
        with self._open() as database:
            rows = database.execute("SELECT metadata FROM pictures WHERE owner = ?", (_sha256(owner),)).fetchall()
            captions = {str(json.loads(text)["caption"]) for (text,) in rows}
            database.execute("DELETE FROM pictures WHERE owner = ?", (_sha256(owner),))
            database.executemany("UPDATE votes SET caption = '' WHERE caption = ?", [(caption,) for caption in captions])

    def remember(self, owner: str, entry: Entry) -> None:
        """Enters a forgotten entry again, as it was; without effect on one that is there."""
        row = (entry.id, _sha256(owner), entry.file, entry.created, entry.favourite, *_words(entry.metadata))
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO pictures (id, owner, file, created, favourite, variant, metadata, words)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def vote(self, vote: Vote) -> None:
        """Enters a vote with the time of now."""
        values = _row(vote) | {"created": time.time(), "caption_sha256": _sha256(vote.caption)}
        names = ", ".join(f'"{name}"' for name in values)
        with self._open() as database:
            database.execute(f"INSERT INTO votes ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))

    def votes(self) -> list[Vote]:
        """All votes, the oldest first."""
        query = 'SELECT "left", "right", choice, category, left_sha256, right_sha256, caption, seed, preset, created FROM votes ORDER BY id'
        with self._open() as database:
            return [Vote(Ballot(*row[:4]), *row[4:]) for row in database.execute(query)]

    def ballots(self) -> dict[Ballot, int]:
        """How often each ballot was given."""
        with self._open() as database:
            rows = database.execute('SELECT "left", "right", choice, category, count(*) FROM votes GROUP BY 1, 2, 3, 4')
            return {Ballot(*row[:4]): row[4] for row in rows}

    def exported_votes(self, limit: int = -1) -> list[dict[str, Any]]:
        """The newest votes, -1: all, the oldest of them first; captions, which may be private, by their sha256."""
        names = (
            "left",
            "right",
            "choice",
            "category",
            "left_sha256",
            "right_sha256",
            "seed",
            "preset",
            "created",
            "caption_sha256",
        )
        listed = ", ".join(f'"{name}"' for name in names)
        with self._open() as database:
            rows = database.execute(f"SELECT {listed} FROM votes ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in reversed(rows)]

    def export_votes(self) -> str:
        """All votes as a JSON list of objects."""
        return json.dumps(self.exported_votes(), ensure_ascii=False, indent=2)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))  # SQLite's own files take its mode
            with closing(sqlite3.connect(self.path, timeout=_TIMEOUT)) as database, database:
                database.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, captions among it
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(
                f"{self.path.name}: {error}; check the disk, or move the file away to start a new one"
            ) from error


def _sha256(text: str) -> str:
    """Hexadecimal. An owner's secret is 128 random bits: its hash cannot be guessed back."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entry(row: Sequence[Any]) -> Entry:
    number, file, created, favourite, variant, metadata = row
    return Entry(number, file, created, bool(favourite), variant, json.loads(metadata))


def _words(metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    """Variant, JSON, and what a search looks through."""
    variant = str(metadata["variant"])
    words = f"{metadata['caption']} {variant} {metadata['seed']} {metadata['preset']}".casefold()
    return variant, json.dumps(dict(metadata), ensure_ascii=False), words


def _row(vote: Vote) -> dict[str, Any]:
    values = asdict(vote)
    ballot: dict[str, Any] = values.pop("ballot")
    return ballot | values
