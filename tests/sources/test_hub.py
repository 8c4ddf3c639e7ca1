"""Repositories on the Hub: what is downloaded, what is recorded, and what a refusal tells. A Hub on this machine stands in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ideogram_q8.errors import SourceError
from ideogram_q8.hub import client as hub
from ideogram_q8.sources import open_source
from tests.hub.downloads import REPO, downloads, put
from tests.hub.server import Hub as LoopbackHub
from tests.synthetic import TINY_TRAITS, write_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "x" * 34
PROGRAM = """
import sys
from ideogram_q8.sources import open_source
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


# ---- caches that cannot be written, tokens that are not taken, proxies ----


@pytest.fixture
def build_hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with downloads(tmp_path) as found:
        yield found


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("noted", [True, False])
def test_a_whole_cache_that_is_read_only_is_used(build_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, noted: bool) -> None:
    """The Hub can be reached: what it would add to the cache is left out, and nothing is asked for twice."""
    put(build_hub, {"model_index.json": b"{}", "vae/config.json": b"{}", "transformer/model.safetensors": b"x" * 100})
    place = hub.Place(REPO)
    first = hub.download(place)
    if not noted:
        (first.parents[1] / "refs/main").unlink()
    for name in (
        "huggingface_hub.hf_hub_download",
        "huggingface_hub.snapshot_download",
        "pathlib.Path.mkdir",
        "pathlib.Path.write_text",
    ):
        monkeypatch.setattr(name, read_only)
    assert hub.download(place) == first
    assert (first / "transformer/model.safetensors").read_bytes() == b"x" * 100


def test_a_cache_that_lacks_a_file_and_is_read_only_is_refused(build_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    put(build_hub, {"model_index.json": b"{}", "vae/config.json": b"{}"})
    first = hub.download(hub.Place(REPO))
    (first / "vae/config.json").unlink()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", read_only)
    with pytest.raises(SourceError, match="cannot be downloaded"):
        hub.download(hub.Place(REPO))


def answer(status: int, kind: str = "GatedRepo") -> Exception:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/x"))
    return {"GatedRepo": errors.GatedRepoError, "": errors.HfHubHTTPError}[kind]("refused", response=response)


@pytest.mark.parametrize(
    ("status", "kind", "token", "message"),
    [
        (401, "GatedRepo", TOKEN, "does not take the token that is used here: log in again with `hf auth login`"),
        (401, "", TOKEN, "does not take the token that is used here"),
        (401, "GatedRepo", None, "is gated: accept its terms at .* and log in with `hf auth login`"),
        (403, "GatedRepo", TOKEN, "is gated: accept its terms at"),
        (500, "", TOKEN, "the Hub answers 500; try again later"),
    ],
)
def test_a_token_that_is_not_taken_is_told_from_terms_that_are_not_accepted(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: str, token: str | None, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    with pytest.raises(hub.Unavailable, match=message) as told, hub.refusals(hub.Place(REPO)):
        raise answer(status, kind)
    assert TOKEN not in str(told.value)


def test_a_socks_proxy_without_its_package_is_told() -> None:
    with pytest.raises(hub.Unavailable, match="a SOCKS proxy is set .* pip install socksio"), hub.refusals(hub.Place(REPO)):
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")
    with pytest.raises(ImportError, match="another"), hub.refusals(hub.Place(REPO)):
        raise ImportError("another")
