"""A stage for downloads: files put into the loopback Hub without a push, and a cache to download them to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import httpx

from tests.hub.scene import connected
from tests.hub.server import Hub, Sent
from tests.hub.state import is_large

REPO = "someone/build"


@contextlib.contextmanager
def downloads(folder: Path) -> Iterator[Hub]:
    """A Hub, the client of this process set up to talk to it, and an empty cache in `folder`; no waiting between tries."""
    with connected(folder) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
        patch.setattr("ideogram_q8.hub.transfer.pause_before", lambda attempt: 0.0)
        patch.setattr("ideogram_q8.hub.transfer.POLL_SECONDS", 0.01)
        set_client_factory(_client)
        yield hub
        hub.settle()


@contextlib.contextmanager
def away() -> Iterator[None]:
    """No Hub answers."""
    with pytest.MonkeyPatch.context() as patch:
        nowhere = "http://127.0.0.1:9"
        patch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
        patch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield


def _client() -> httpx.Client:
    return httpx.Client(verify=False, trust_env=False, follow_redirects=True, timeout=None)


def put(hub: Hub, files: Mapping[str, bytes], repo: str = REPO) -> str:
    """Makes these the files of a repository, in a commit on top of what it has; returns the commit."""
    state = hub.state
    repository = state.repositories.get(("model", repo)) or state.create("model", repo)
    changes = {path: _entry(hub, path, content) for path, content in files.items()}
    return state.commit(repository, "main", None, "put", changes).oid


def _entry(hub: Hub, path: str, content: bytes):
    if is_large(path, len(content)):
        return hub.state.large(hub.state.blobs.put(content), len(content))
    return hub.state.regular(content)


def put_folder(hub: Hub, folder: Path, repo: str = REPO, prefix: str = "") -> str:
    """The same with the files of a folder."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return put(hub, {prefix + name: path.read_bytes() for name, path in files.items()}, repo)


def sent_of(hub: Hub, sha256: str) -> list[Sent]:
    """What went out of a file, in order."""
    return [sent for sent in hub.sent if sent.sha256 == sha256]
