"""50,000 votes and 20,000 pictures slow no page load: measured on every event of the running page that reads and is not queued."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ideogram_q8.ui.engine.album import Album
from ideogram_q8.ui.engine.library import Library
from tests.ui.site import Site, site
from tests.ui.test_endpoints import endpoints, sound

pytestmark = pytest.mark.slow
PICTURES, VOTES, MOST_SECONDS = 20_000, 50_000, 0.2
CAPTION = json.dumps({"high_level_description": "a star over a harbour " * 100})
"""2,200 characters, a long caption; the longest that is taken has 32,768."""
SESSION = "kept"
OWNER = f"session-{SESSION}"
WORDS = ("zebra", "star 17", "int8 19999")
NAMES, CHOICES = ("fp8", "int8", "q8_0", "q4_k_s"), ("left", "right", "tie", "both_bad")


def add_pictures(path: Path, outputs: Path, numbers: range) -> None:
    """As `Library.add` does for each, at once; the pictures are one file with many names."""
    first = outputs / "first.png"
    if not first.exists():
        content = io.BytesIO()
        Image.new("RGB", (64, 64)).save(content, "PNG")
        first.write_bytes(content.getvalue())
    owner, database = hashlib.sha256(OWNER.encode()).hexdigest(), sqlite3.connect(path)
    rows = []
    for i in numbers:
        os.link(first, outputs / f"{i}.png")
        known = {"variant": "int8", "caption": f"{CAPTION} {i}", "seed": i, "preset": "turbo-12", "width": 64, "height": 64}
        rows.append((owner, f"{i}.png", 1.0, "int8", json.dumps(known), f"{known['caption']} int8 {i} turbo-12"))
    database.executemany(
        "INSERT INTO pictures (owner, file, created, variant, metadata, words) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    database.commit()
    database.close()


def add_votes(path: Path) -> None:
    votes = (
        (
            1.0,
            NAMES[i % 4],
            NAMES[(i + 1) % 4],
            CHOICES[i % 3],
            f"category {i % 5}",
            "0" * 64,
            "1" * 64,
            f"{CAPTION} {i}",
            i,
            "p",
            "",
        )
        for i in range(VOTES)
    )
    database = sqlite3.connect(path)
    database.executemany("INSERT INTO votes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", votes)
    database.commit()
    database.close()


def processor_seconds(work: Callable[[], object]) -> float:
    """The smaller of two: the first time, modules are imported."""
    found = []
    for _ in range(2):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("growth")) as found:
        yield found


def asked(app: Site) -> dict[str, Callable[[], object]]:
    """Every call that is answered without its turn, as the page makes it at its start."""

    def call(fn: Any) -> None:
        event = {"index": 0, "value": None} if fn.collects_event_data else None
        app.call({"data": sound(fn), "fn_index": fn._id, "session_hash": SESSION, "event_data": event})

    named = {f"{fn._id} {fn.name}": fn for fn in endpoints(app) if not fn.queue and fn.name != "clean" and not _exports(fn)}
    return {name: lambda fn=fn: call(fn) for name, fn in named.items()}  # type: ignore[misc]


def _exports(fn: Any) -> bool:
    """Whether it writes all votes into a file: no page does when it is loaded."""
    return any(getattr(block, "elem_id", None) == "q8-votes-exported" for block in fn.outputs)


def test_much_that_is_kept_slows_no_page(app: Site) -> None:
    """Processor seconds beyond those of a page with one full gallery; also of a search, a deletion and the album's own calls."""
    library = app.studio.library
    album = Album(library, app.studio.outputs, app.studio.copies)
    add_pictures(library.path, app.studio.outputs, range(61))
    calls = asked(app)
    assert len(calls) > 25
    before = {name: processor_seconds(work) for name, work in calls.items()}
    add_pictures(library.path, app.studio.outputs, range(61, PICTURES))
    add_votes(library.path)
    assert len(library.files(OWNER)) == PICTURES and sum(library.ballots().values()) == VOTES
    looks = {f"search {words}": lambda words=words: album.pictures(OWNER, words, limit=61) for words in WORDS}  # type: ignore[misc]
    looks |= {"favourites": lambda: album.pictures(OWNER, favourites=True, limit=61), "delete": lambda: _delete(library, album)}
    after = {name: processor_seconds(work) - before.get(name, 0.0) for name, work in (calls | looks).items()}
    assert not {name: seconds for name, seconds in after.items() if seconds > MOST_SECONDS}


def _delete(library: Library, album: Album) -> None:
    album.delete(OWNER, library.pictures(OWNER, limit=1)[0].id)
