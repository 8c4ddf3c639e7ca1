"""Downloads that can be stopped anywhere and go on where they were. Over HTTP, from a Hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from ideogram_q8.errors import ResourceError, SourceError
from ideogram_q8.hub import client, transfer
from tests.hub.downloads import REPO, downloads, put, sent_of
from tests.hub.faults import Fault
from tests.hub.server import Hub

WEIGHTS = random.Random(1).randbytes(3_000_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILES = {"a.safetensors": WEIGHTS, "config.json": b"{}"}
TOTAL = len(WEIGHTS) + 2
PLACE = client.Place(REPO)


class Stopped(Exception):
    pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with downloads(tmp_path) as hub:
        put(hub, FILES)
        hub.piece = 100_000
        yield hub


def bring(on_progress: client.OnProgress = lambda here, total: None) -> Path:
    return client.fetch(client.look(PLACE), FILES, on_progress)


def stop_at(bytes_here: int) -> client.OnProgress:
    def on_progress(here: int, total: int) -> None:
        if here >= bytes_here:
            raise Stopped

    return on_progress


def incomplete(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache").glob("models--*/blobs/*.incomplete")
    return found


def test_progress_rises_to_the_size_and_the_files_are_what_was_put(hub: Hub) -> None:
    seen: list[tuple[int, int]] = []
    hub.pace = 0.05
    folder = bring(lambda here, total: seen.append((here, total)))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    here = [done for done, _ in seen]
    assert here == sorted(here) and here[0] == 0 and here[-1] == TOTAL and len(set(here)) > 4
    assert {total for _, total in seen} == {TOTAL}
    assert [(sent.start, sent.size) for sent in sent_of(hub, SHA256)] == [(0, len(WEIGHTS))]


def test_what_is_here_is_not_fetched_again(hub: Hub) -> None:
    bring()
    assert client.look(PLACE).missing_bytes(FILES) == 0
    before = len(hub.sent)
    bring()
    assert len(hub.sent) == before


def test_a_cancelled_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.pace = 0.05
    with pytest.raises(Stopped):
        bring(stop_at(1_000_000))
    hub.pace = 0.0
    seen: list[int] = []
    bring(lambda here, total: seen.append(here))
    first, second = sent_of(hub, SHA256)
    assert first.start == 0 and 1_000_000 <= second.start < len(WEIGHTS)
    assert second.size == len(WEIGHTS) - second.start
    assert seen[0] >= 1_000_000 and seen == sorted(seen)


def test_a_cancel_does_not_wait_for_a_silent_connection(hub: Hub) -> None:
    hub.pace = 3.0
    started = time.monotonic()
    with pytest.raises(Stopped):
        bring(stop_at(1))
    assert time.monotonic() - started < 2
    hub.pace = 0.0


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(hub: Hub, tmp_path: Path) -> None:
    """The child asks this process's Hub, and is killed in the middle of a file."""
    program = (
        "from ideogram_q8.ui.imports import postpone\n"
        "postpone('torch')\n"
        "from ideogram_q8.hub import client as hub\n"
        f"place = hub.Place({REPO!r})\n"
        f"hub.fetch(hub.look(place), {list(FILES)!r}, lambda here, total: print(here, flush=True))\n"
    )
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    hub.pace = 0.05
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        next(line for line in child.stdout if int(line) >= 500_000)
        child.kill()
    hub.pace = 0.0
    arrived = incomplete(tmp_path).stat().st_size
    assert 500_000 <= arrived < len(WEIGHTS)
    assert (bring() / "a.safetensors").read_bytes() == WEIGHTS
    last = sent_of(hub, SHA256)[-1]
    assert (last.start, last.size) == (arrived, len(WEIGHTS) - arrived)


def test_a_broken_connection_is_made_again(hub: Hub) -> None:
    hub.script.when = [("GET", "a.safetensors", Fault("break")), ("GET", "a.safetensors", Fault("status", 503))]
    assert (bring() / "a.safetensors").read_bytes() == WEIGHTS
    assert [sent.start for sent in sent_of(hub, SHA256)] == [0, len(WEIGHTS) // 2]


def test_a_hub_that_does_not_resume_begins_again(hub: Hub) -> None:
    hub.script.when = [("GET", "a.safetensors", Fault("break"))]
    hub.resumes = False
    assert (bring() / "a.safetensors").read_bytes() == WEIGHTS
    assert [sent.start for sent in sent_of(hub, SHA256)] == [0, 0]


def test_other_bytes_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    stored = hub.state.blobs.path(SHA256)
    stored.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    with pytest.raises(SourceError, match=rf"a\.safetensors has sha256 [0-9a-f]{{64}}, expected {SHA256}; it was removed"):
        bring()
    assert not list((tmp_path / "cache").glob("models--*/blobs/*"))
    stored.write_bytes(WEIGHTS)
    assert (bring() / "a.safetensors").read_bytes() == WEIGHTS


def test_more_bytes_than_the_hub_says_are_refused(hub: Hub) -> None:
    snapshot = client.look(PLACE)
    short = client.RemoteFile("a.safetensors", 1000, SHA256)
    lying = client.Snapshot(PLACE, snapshot.commit, {"a.safetensors": short})
    with pytest.raises(SourceError, match="gives more than the 1000 bytes that the Hub says"):
        client.fetch(lying, ["a.safetensors"], lambda here, total: None)


def test_two_at_once_fetch_it_once(hub: Hub) -> None:
    hub.pace = 0.05
    threads = [threading.Thread(target=bring) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(sent.size for sent in sent_of(hub, SHA256)) == len(WEIGHTS)


def test_a_disk_that_is_too_small_is_told_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "disk_usage", lambda path: _Usage(2_000_000))
    with pytest.raises(ResourceError, match=r"needs 3\.0 MB more, 2\.0 MB are free .* another place with HF_HOME"):
        bring()
    assert not hub.sent


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_disk_that_fills_keeps_what_arrived(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer.os, "fsync", full)
        with pytest.raises(ResourceError, match="is full; what arrived of .* is kept: make room"):
            bring()
    assert incomplete(tmp_path).stat().st_size == len(WEIGHTS)
    bring()
    assert len(sent_of(hub, SHA256)) == 1


def test_a_hub_that_stays_away_is_told_and_nothing_is_lost(hub: Hub, tmp_path: Path) -> None:
    snapshot = client.look(PLACE)
    hub.script.when = [("GET", "a.safetensors", Fault("break")), *[("GET", "a.safetensors", Fault("close"))] * 20]
    with pytest.raises(client.Unavailable, match="try again: it goes on where it was") as refused:
        client.fetch(snapshot, FILES, lambda here, total: None)
    shown = "".join(traceback.format_exception(refused.value))
    assert hub.token not in shown and "RemoteProtocolError: " not in shown
    assert incomplete(tmp_path).stat().st_size == len(WEIGHTS) // 2


def test_a_gate_says_whose_terms(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    hub.state.repositories["model", REPO].gated = "manual"
    hub.state.accounts.clear()
    with pytest.raises(
        client.Unavailable, match=f"is gated: accept its terms at https://huggingface.co/{REPO} and log in with"
    ):
        bring()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("org/name", client.Place("org/name")),
        ("org/name@v1.0.0", client.Place("org/name", revision="v1.0.0")),
        ("org/name@refs/pr/1", client.Place("org/name", revision="refs/pr/1")),
        ("org/name/q4_k_m@main", client.Place("org/name", "q4_k_m", "main")),
    ],
)
def test_a_place_on_the_hub(text: str, place: client.Place) -> None:
    assert client.parse(text) == place


@pytest.mark.parametrize(
    "text", ["", "name", "/org/name", "../name", "org/..", "org/name/..", "org/a/b/c", "org/name@", "org/na me", "a/b@../x"]
)
def test_what_is_no_place(text: str) -> None:
    assert client.parse(text) is None
