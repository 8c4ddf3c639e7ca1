"""What is deleted is gone with all that was made of it, what is kept is the user's alone, and much of it slows no page."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ideogram_q8.formats.png import write_png
from ideogram_q8.measure.preference import Ballot, standings
from ideogram_q8.ui.doors.private import temporary_folder
from ideogram_q8.ui.engine import machine
from ideogram_q8.ui.engine.album import Album
from ideogram_q8.ui.engine.library import Library, Vote
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import form
from ideogram_q8.ui.tabs.history_tab import _read_upload
from tests.synthetic import write_source
from tests.ui.conftest import ROOT

METADATA = {"variant": "int8", "caption": "a secret", "seed": 1, "preset": "turbo-12"}
START = """
import sys, time
from pathlib import Path
from ideogram_q8.ui.doors.private import temporary_folder
print(temporary_folder(Path(sys.argv[1])), flush=True)
time.sleep(600)
"""


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(str(write_source(tmp_path / "source")), tmp_path / "outputs", tmp_path / "cache")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_files_are_the_users_alone(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for folder in (outputs, tmp_path / "cache"):
        folder.mkdir(mode=0o755)
    made = Studio(str(write_source(tmp_path / "source")), outputs, tmp_path / "cache")
    made.library.add("owner", "a.png", METADATA)
    assert mode(outputs) == mode(made.temporary) == mode(made.temporary.parent) == mode(tmp_path / "cache") == 0o700
    assert {mode(path) for path in tmp_path.glob("outputs.sqlite*")} == {0o600}


def add_picture(studio: Studio, name: str = "a.png", owner: str = "me") -> int:
    """A picture with a comparison, a nameless copy and Gradio's copies of all three."""
    (studio.outputs / name).write_bytes(b"png")
    copies = [studio.temporary / f"{Path(name).stem}-compared.png", studio.temporary / f"blind-{name}"]
    for copy in copies:
        copy.write_bytes(b"png")
        studio.copies.note(copy, [name, "other.png"])
    for held in (studio.outputs / name, *copies):
        cache = studio.temporary / hashlib.sha256(held.name.encode()).hexdigest()
        cache.mkdir()
        (cache / held.name).write_bytes(b"png")
    (studio.outputs / f"{Path(name).stem}-compared.json").write_text("of an earlier release", encoding="utf-8")
    return studio.library.add(owner, name, METADATA)


def left(studio: Studio) -> list[str]:
    folders = (studio.outputs, studio.temporary)
    return sorted(path.name for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["delete", "clean"])
def test_with_a_picture_go_all_its_copies(studio: Studio, way: str) -> None:
    picture = add_picture(studio)
    add_picture(studio, "theirs.png", "you")
    studio.library.vote(Vote(Ballot("fp8", "int8", "left"), "0", "1", "a secret", 1, "turbo-12"))
    if way == "delete":
        Album(studio.library, studio.outputs, studio.copies).delete("me", picture)
    else:
        machine.clean(studio, "pictures", "me")
    assert not [name for name in left(studio) if "theirs" not in name]
    assert len(left(studio)) == 7 - 2 + 2  # the other visitor's picture, two copies, three in the cache, the old file
    assert studio.library.votes()[0].caption == ""
    assert json.loads(studio.library.export_votes())[0]["caption_sha256"] == hashlib.sha256(b"a secret").hexdigest()


def test_a_forgotten_caption_is_in_no_byte_of_the_database(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.sqlite")
    caption = "a secret of many words " * 20
    number = library.add("me", "a.png", METADATA | {"caption": caption})
    library.add("me", "b.png", METADATA)
    library.vote(Vote(Ballot("fp8", "int8", "left"), "0", "1", caption, 1, "turbo-12"))
    assert b"of many words" in library.path.read_bytes()
    library.forget("me", number)
    assert b"of many words" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_an_uploaded_picture_goes_when_it_was_read(studio: Studio) -> None:
    """Whether it has settings or not."""
    upload = studio.temporary / "hash" / "a.png"
    upload.parent.mkdir()
    size = {"width": 8, "height": 8, "artifact_sha256": "0" * 64, "versions": {}}
    write_png(upload, Image.new("RGB", (8, 8)), METADATA | size)
    assert _read_upload(upload)["caption"] == "a secret" and not upload.exists()
    upload.write_bytes(b"no PNG")
    with pytest.raises(gr.Error):
        _read_upload(upload)
    assert not upload.exists()


def test_a_comparison_goes_with_each_of_its_pictures(studio: Studio) -> None:
    add_picture(studio)
    studio.copies.remove(["other.png"])
    assert left(studio) == ["a-compared.json", "a.png", "a.png"]


def test_what_earlier_releases_left_goes_at_the_start(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for name in ("blind-0.png", "votes-0.json", "gone-compared.png", "a.png", "a-compared.png", "photo.png"):
        (outputs / name).write_bytes(b"x")
    Studio(str(write_source(tmp_path / "source")), outputs, tmp_path / "cache")
    assert sorted(path.name for path in outputs.iterdir()) == ["a-compared.png", "a.png", "photo.png"]


def test_the_temporary_folder_of_a_killed_app_goes_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", START, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    (killed, dead), (running, alive) = start(), start()
    try:
        (dead / "upload.png").write_bytes(b"x")
        killed.kill()
        killed.wait()
        own = temporary_folder(tmp_path)
        assert not dead.exists() and alive.is_dir() and own.is_dir() and own not in (alive, dead)
    finally:
        for process in (killed, running):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_owners_are_kept_as_hashes_those_of_earlier_releases_too(tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    database = sqlite3.connect(old)
    database.executescript("""
        CREATE TABLE pictures (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, file TEXT NOT NULL, created REAL NOT NULL,
            favourite INTEGER NOT NULL DEFAULT 0, variant TEXT NOT NULL, metadata TEXT NOT NULL, words TEXT NOT NULL);
        CREATE INDEX pictures_of_owner ON pictures (owner, id);
        CREATE TABLE votes (id INTEGER PRIMARY KEY, created REAL NOT NULL, "left" TEXT NOT NULL, "right" TEXT NOT NULL,
            choice TEXT NOT NULL, category TEXT NOT NULL, left_sha256 TEXT NOT NULL, right_sha256 TEXT NOT NULL,
            caption TEXT NOT NULL, seed INTEGER NOT NULL, preset TEXT NOT NULL);
        INSERT INTO pictures VALUES (7, 'the-secret', 'a.png', 1.0, 1, 'int8', '{"caption": "x"}', 'x');
        INSERT INTO votes VALUES (1, 1.0, 'fp8', 'int8', 'left', '', '0', '1', 'a caption', 1, 'turbo-12');
        PRAGMA user_version = 1;
    """)
    database.commit()
    database.close()
    library = Library(old)
    library.add("the-secret", "b.png", METADATA)
    assert [entry.file for entry in library.pictures("the-secret")] == ["b.png", "a.png"]
    assert b"the-secret" not in old.read_bytes() or _vacuumed(old)
    assert json.loads(library.export_votes())[0]["caption_sha256"] == hashlib.sha256(b"a caption").hexdigest()
    assert Library(old).ballots() == {Ballot("fp8", "int8", "left"): 1}


def _vacuumed(path: Path) -> bool:
    database = sqlite3.connect(path)
    owners = {owner for (owner,) in database.execute("SELECT owner FROM pictures")}
    database.close()
    return owners == {hashlib.sha256(b"the-secret").hexdigest()}


def test_with_accounts_history_is_the_accounts() -> None:
    def request(name: str | None, session: str) -> Any:
        return SimpleNamespace(username=name, session_hash=session, request=None)

    alice = form.owner_of("secret", request("alice", "s"))
    assert alice == form.owner_of(None, request("alice", "t")) == form.owner_of("another", request("alice", "t"))
    assert alice != form.owner_of("secret", request("bob", "s")) and alice != form.owner_of("secret", request(None, "s"))


def test_much_that_is_kept_slows_no_page(tmp_path: Path) -> None:
    """Processor seconds of what a page load, a deletion and the Machine tab look up."""
    library = Library(tmp_path / "library.sqlite")
    caption, database = "x" * 20_000, sqlite3.connect(library.path)
    metadata = json.dumps(METADATA | {"caption": caption})
    owner = hashlib.sha256(b"me").hexdigest()
    rows = ((owner, f"{i}.png", 1.0, "int8", metadata, caption) for i in range(5_000))
    database.executemany(
        "INSERT INTO pictures (owner, file, created, variant, metadata, words) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    names, choices = ("fp8", "int8", "q8_0", "q4_k_s"), ("left", "right", "tie", "both_bad")
    votes = (
        (1.0, names[i % 4], names[(i + 1) % 4], choices[i % 3], "text", "0" * 64, "1" * 64, caption[:500], i, "p", "")
        for i in range(50_000)
    )
    database.executemany("INSERT INTO votes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", votes)
    database.commit()
    database.close()
    looks = {
        "standings": lambda: standings(library.ballots()),
        "history": lambda: library.pictures("me", limit=61),
        "machine": lambda: library.files("me"),
        "find": lambda: library.find("me", 17),
        "forget": lambda: library.forget("me", 17),
    }
    for name, look in looks.items():
        began = time.process_time()
        look()
        assert time.process_time() - began < 0.2, name
