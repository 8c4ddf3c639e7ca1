"""What was made and voted: owners see their own, searches mean what they say, files of others are refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from ideogram_q8.errors import ResourceError
from ideogram_q8.measure.preference import Ballot
from ideogram_q8.ui.engine.library import Library, Vote

METADATA = {
    "caption": 'A red HOUSE, 100% "quoted"',
    "variant": "int8",
    "artifact_sha256": "0" * 64,
    "seed": 7,
    "preset": "turbo-12",
    "width": 64,
    "height": 64,
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "deep" / "library.sqlite")


def test_owners_see_and_change_their_own_only(library: Library) -> None:
    mine = library.add("me", "a.png", METADATA)
    library.set_favourite("you", mine, True)
    library.forget("you", mine)
    assert library.pictures("you") == []
    (entry,) = library.pictures("me")
    assert (entry.id, entry.file, entry.favourite, entry.variant, entry.metadata) == (mine, "a.png", False, "int8", METADATA)
    library.forget("me", mine)
    assert library.pictures("me") == []
    library.remember("me", entry)
    library.remember("me", entry)
    assert library.pictures("me") == [entry] and library.pictures("you") == []


def test_the_newest_come_first_and_favourites_alone_on_request(library: Library) -> None:
    ids = [library.add("me", f"{i}.png", METADATA | {"seed": i}) for i in range(5)]
    library.set_favourite("me", ids[1], True)
    assert [entry.id for entry in library.pictures("me")] == ids[::-1]
    assert [entry.id for entry in library.pictures("me", favourites=True)] == [ids[1]]
    assert [entry.id for entry in library.pictures("me", limit=2)] == [ids[4], ids[3]]
    library.set_favourite("me", ids[1], False)
    assert library.pictures("me", favourites=True) == []


@pytest.mark.parametrize("search", ["", "red", "RED house", "house red", "100%", '"quoted"', "int8 turbo", "7"])
def test_a_search_finds_all_words_in_any_order_and_case(library: Library, search: str) -> None:
    library.add("me", "a.png", METADATA)
    assert len(library.pictures("me", search)) == 1


@pytest.mark.parametrize("search", ["blue", "red blue", "r%d", "_ed", "' OR 1=1 --"])
def test_a_search_has_no_wildcards_and_no_sql(library: Library, search: str) -> None:
    library.add("me", "a.png", METADATA)
    assert library.pictures("me", search) == []


def test_votes_come_back_and_can_be_exported(library: Library) -> None:
    votes = [
        Vote(Ballot("fp8", "int8", "left", "text"), "a" * 64, "b" * 64, "caption \u05d0", 3, "default-20"),
        Vote(Ballot("int8", "q8_0", "both_bad"), "b" * 64, "c" * 64, "x", 4, "turbo-12"),
    ]
    for vote in votes:
        library.vote(vote)
    found = library.votes()
    assert [vote.ballot for vote in found] == [vote.ballot for vote in votes]
    assert found[0].created > 0 and found[0].caption == votes[0].caption
    exported = json.loads(library.export_votes())
    assert [row["choice"] for row in exported] == ["left", "both_bad"] and exported[1]["right"] == "q8_0"
    assert "caption" not in exported[0] and len({row["caption_sha256"] for row in exported}) == 2


def test_what_was_entered_outlives_the_program_and_threads_may_share_it(library: Library) -> None:
    threads = [threading.Thread(target=library.add, args=("me", f"{i}.png", METADATA)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Library(library.path).pictures("me")) == 8


def test_a_file_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"not a database" * 100)
    with pytest.raises(ResourceError, match="move the file away"):
        Library(noise)
    newer = tmp_path / "newer.sqlite"
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(ResourceError, match="version 99"):
        Library(newer)
