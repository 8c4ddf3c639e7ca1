"""Repositories on the Hub: what is downloaded, what is recorded, and what a refusal tells. A Hub on this machine stands in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

from ideogram_q8.checkpoint import hub, open_source
from ideogram_q8.errors import SourceError
from tests.synthetic import TINY_TRAITS, write_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "x" * 34
PROGRAM = """
import sys
from ideogram_q8.checkpoint import open_source
from ideogram_q8.errors import SourceError
for text in ("org/whole", "org/whole nowhere", "org/gated", "org/missing", "org/broken"):
    repository, _, revision = text.partition(" ")
    try:
        source = open_source(repository, revision=revision or None)
        record = source.record()
        print("opened", record.location, record.revision, source.traits.name, sorted(p.name for p in source.folder.rglob("*.*")))
        print("again", open_source(source.folder).record() == record)
    except SourceError as error:
        print("refused", error)
"""


class Hub(BaseHTTPRequestHandler):
    """Enough of the Hub's protocol for `snapshot_download`: revisions, trees and files; org/gated is gated."""

    folder: Path

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "org/gated" in path:
            self.refuse(403, "GatedRepo")
        elif "org/broken" in path:
            self.refuse(500, "")
        elif "org/whole" not in path:
            self.refuse(404, "RepoNotFound")
        elif "nowhere" in path:
            self.refuse(404, "RevisionNotFound")
        elif path.startswith("/api/models/org/whole/revision/"):
            self.answer({"id": "org/whole", "sha": COMMIT, "siblings": []})
        elif path.startswith("/api/models/org/whole/tree/"):
            self.answer([self.entry(file) for file in self.files()])
        else:
            content = (self.folder / path.split(f"{COMMIT}/")[1]).read_bytes()
            self.send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    do_HEAD = do_GET  # noqa: N815

    def files(self) -> list[Path]:
        return [path for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def entry(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        name = path.relative_to(self.folder).as_posix()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})

    def answer(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path) -> Iterator[str]:
    folder = write_source(tmp_path / "served")
    (folder / "LICENSE.md").write_text("terms", encoding="utf-8")
    (folder / "samples.png").write_bytes(b"not needed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_repository_is_downloaded_and_refusals_are_explained(endpoint, tmp_path):
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    opened, again, nowhere, gated, missing, broken = run.stdout.splitlines()
    assert opened.startswith(f"opened org/whole {COMMIT} {TINY_TRAITS.name} ")
    assert "LICENSE.md" in opened and "samples.png" not in opened
    assert again == "again True"
    assert "org/whole at nowhere on the Hugging Face Hub has no such revision" in nowhere
    assert "is gated: accept its terms at https://huggingface.co/org/gated and log in with `hf auth login`" in gated
    begin = "refused there is no folder org/missing here, and org/missing on the Hugging Face Hub does not exist or is private"
    assert missing.startswith(begin)
    assert "there is no folder" not in gated + nowhere
    assert "org/broken on the Hugging Face Hub" in broken and "refused" in broken
    assert TOKEN not in run.stdout + run.stderr


def test_offline_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SourceError, match="org/name on the Hugging Face Hub is not in the cache and the Hub cannot be reached: connect"
    ):
        open_source("org/name")


@pytest.mark.parametrize("name", ["", "name", "/org/name", "../name", "org/name/more", "org/na me", "pocket"])
def test_what_is_no_repository(name):
    assert not hub.is_repository(name)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def test_a_snapshot_in_the_cache_is_recorded_as_its_repository(cache):
    assert hub.origin(cache / "models--org--a-b" / "snapshots" / COMMIT) == ("org/a-b", COMMIT)
    assert hub.origin(Path("/home/me/models/ideogram-4-fp8")) is None


def test_a_snapshot_in_another_cache_is_the_folder_that_it_is(cache, tmp_path):
    """By the repository's name it would not be found again."""
    folder = write_source(tmp_path / "other" / "models--org--a-b" / "snapshots" / COMMIT)
    assert hub.origin(folder) is None
    record = open_source(folder).record()
    assert (record.location, record.revision) == (str(folder), None)


def test_a_cache_behind_a_link_is_the_same_cache(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache, target_is_directory=True)
    folder = write_source(cache / "models--org--a-b" / "snapshots" / COMMIT)
    assert hub.origin(tmp_path / "link" / folder.relative_to(cache)) == ("org/a-b", COMMIT)


def test_a_whole_cache_that_cannot_be_written_is_used(endpoint, cache, monkeypatch):
    """As a read-only mount: everything is there, and the Hub answers."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    first = hub.download(hub.Place("org/whole"))
    before = {path: path.lstat().st_mtime_ns for path in cache.rglob("*")}
    refused = OSError(errno.EROFS, "Read-only file system")
    for place in ("pathlib.Path.mkdir", "pathlib.Path.write_text", "os.replace", "os.makedirs", "os.rename", "os.symlink"):
        monkeypatch.setattr(place, _raiser(refused))
    assert hub.download(hub.Place("org/whole")) == first
    assert open_source("org/whole").location == "org/whole"
    assert {path: path.lstat().st_mtime_ns for path in cache.rglob("*")} == before


def _raiser(error: OSError) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    return refuse
