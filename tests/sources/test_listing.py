"""What the Hub lists is held to its names and sizes, and its address gives no secret away."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.hf_api import RepoFile

from ideogram_q8.errors import IdeogramQ8Error, SourceError
from ideogram_q8.hub import client as hub
from ideogram_q8.hub import endpoint
from ideogram_q8.hub.client import Place
from ideogram_q8.publishing.pushing.hub import Hub as Client
from ideogram_q8.publishing.pushing.refusals import HubError, redact
from tests.hub.downloads import REPO, downloads, put
from tests.hub.server import Hub

GOOD = {"path": "manifest.json", "size": 3, "oid": "0" * 40}
BAD: dict[str, dict[str, Any]] = {
    "a size as text": {"size": "3"},
    "a size of parts": {"size": 3.5},
    "true": {"size": True},
    "no size": {"size": None},
    "less than nothing": {"size": -1},
    "more than any disk": {"size": 1 << 70},
    "a list": {"size": [3]},
    "NUL": {"path": "a\0b"},
    "a number for a name": {"path": 7},
    "no name": {"path": None},
    "a wrong lfs": {"lfs": {"size": 3}},
    "lfs as text": {"lfs": "yes"},
    "a number for a sha256": {"lfs": {"size": 3, "oid": 7, "pointerSize": 1}},
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    with downloads(tmp_path) as found:
        yield found


def listed(monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha="1" * 40, private=False))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_tree", lambda *_, **__: (RepoFile(**e) for e in [dict(GOOD), entry]))


@pytest.mark.parametrize("how", BAD)
def test_a_list_of_wrong_kinds_is_refused(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    listed(monkeypatch, GOOD | BAD[how])
    with pytest.raises(SourceError, match="list of its files is not understood"):
        hub.look(Place(REPO))
    if "sha256" not in how:  # which a push compares and makes no name of
        monkeypatch.setattr("ideogram_q8.publishing.pushing.hub.pause_before", lambda _: 0.0)
        with pytest.raises(HubError, match="answer was not understood"):
            Client(REPO).read()


@pytest.mark.parametrize("path", ["../x", "/abs", "a//b", "a/./b", ""])
def test_a_name_that_leads_elsewhere_is_left_out(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    listed(monkeypatch, GOOD | {"path": path})
    assert set(hub.look(Place(REPO)).files) == {"manifest.json"}


@pytest.mark.parametrize("commit", ["../../x", "", "main", "1" * 39])
def test_a_commit_is_forty_digits(monkeypatch: pytest.MonkeyPatch, commit: str) -> None:
    listed(monkeypatch, GOOD)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha=commit))
    with pytest.raises(SourceError, match="not understood"):
        hub.look(Place(REPO))


@pytest.mark.parametrize("size", [10, 0, 49_999, 50_001])
def test_a_small_file_has_the_size_that_was_listed(served: Hub, size: int) -> None:
    put(served, {"README.md": b"x" * 50_000})
    snapshot = hub.look(Place(REPO))
    file = snapshot.files["README.md"]
    assert file.sha256 is None
    lying = dataclasses.replace(snapshot, files={"README.md": dataclasses.replace(file, size=size)})
    with pytest.raises(IdeogramQ8Error, match=f"README.md of {REPO} has {size} bytes by the Hub's list, and .* arrived"):
        hub.fetch(lying, ["README.md"], hub.unseen)
    left = [path for path in snapshot.folder.parents[1].rglob("*") if path.is_file() and path.stat().st_size >= 49_000]
    assert left == []
    assert hub.fetch(snapshot, ["README.md"], hub.unseen).joinpath("README.md").stat().st_size == 50_000


@pytest.mark.parametrize("size", [10, 50_001])
def test_a_file_that_is_read_back_has_the_size_that_was_listed(served: Hub, size: int) -> None:
    put(served, {"README.md": b"x" * 50_000})
    client = Client(REPO, endpoint=served.endpoint)
    remote = client.read()
    assert remote is not None and client.content("README.md", remote.head, 50_000) == b"x" * 50_000
    with pytest.raises(SourceError, match=f"has {size} bytes by the Hub's list"):
        client.content("README.md", remote.head, size)


def test_no_password_of_the_address_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(REPO, endpoint="https://me:secret@hub.example.org", token="hf_abcdefgh")
    assert client.url == f"https://hub.example.org/{REPO}"
    said = "at https://me:secret@hub.example.org/x?sig=1 and HTTP://a@b.example/y"
    assert redact(said) == "at https://hub.example.org/x and HTTP://b.example/y"
    assert "secret" not in caplog.text and "unencrypted" not in caplog.text


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("http://hub.example.org", True),
        ("http://me:secret@10.0.0.7:8080", True),
        ("http://localhost.evil.example", True),
        ("http://127.0.0.1.nip.io", True),
        ("https://hub.example.org", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
    ],
)
def test_a_token_by_plain_http_is_warned_of_in_one_line(caplog: pytest.LogCaptureFixture, address: str, warned: bool) -> None:
    endpoint._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Client(REPO, endpoint=address, token="hf_abcdefgh")
        endpoint.warn_of_plain_http(address, False)
    lines = [record.getMessage() for record in caplog.records if "unencrypted" in record.getMessage()]
    assert len(lines) == warned
    assert "secret" not in caplog.text and "hf_abc" not in caplog.text
