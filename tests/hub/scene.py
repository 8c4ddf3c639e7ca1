"""A stage for pushes in this process: a loopback Hub, an old release in it, a new one to push, and what became of the repository."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub.utils import httpx

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.push import error_line, main
from ideogram_q8.publishing.pushing import hub as client
from ideogram_q8.publishing.pushing.plan import ReleaseFile
from ideogram_q8.publishing.pushing.sending import PushOrder, push
from tests.hub.faults import Script
from tests.hub.server import Hub, serve

REPO = "someone/pocket-int8"
WEIGHTS = ("a.safetensors", "b.safetensors")


class Result(NamedTuple):
    """What a command gave: its exit code and what it printed."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def connected(folder: Path, xet: bool = False) -> Iterator[Hub]:
    """A Hub, and the real client of this process set up to talk to it: online, without proxies, without waiting between tries."""
    with serve(folder / "hub") as hub, pytest.MonkeyPatch.context() as patch:
        if xet:
            hub.xet = folder / "cas"
            hub.xet.mkdir()
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", not xet)
        patch.setattr("huggingface_hub.utils._http.time", types.SimpleNamespace(sleep=lambda _: None, time=time.time))
        patch.setattr("ideogram_q8.publishing.pushing.hub._client", _client)
        for place in ("ideogram_q8.publishing.pushing.hub", "ideogram_q8.publishing.pushing.sending"):
            patch.setattr(f"{place}.pause_before", lambda attempt: 0.0)
        patch.setattr("ideogram_q8.publishing.pushing.sending.LARGE", 1000)  # so that the tests' weights count as large
        patch.setenv("HF_TOKEN", hub.token)
        yield hub


def _client() -> Any:
    """Without certificates, which take long to read, and without the proxies of this machine."""
    return httpx.Client(verify=False, trust_env=False, follow_redirects=True, timeout=client.TIMEOUT)


def command(*arguments: object) -> Result:
    """Runs push.py in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def release(folder: Path, fill: str) -> tuple[ReleaseFile, ...]:
    """Two large files and two small ones, which `fill` sets apart."""
    texts = {name: f"{name} {fill} " * 300 for name in WEIGHTS}
    for name, text in texts.items():
        (folder / f"{fill}-{name}").write_text(text, encoding="utf-8")
    texts |= {"README.md": f"---\nlicense: apache-2.0\n---\n{fill}\n", "manifest.json": f'{{"fill": "{fill}"}}\n'}
    return tuple(
        ReleaseFile(
            name,
            len(text),
            hashlib.sha256(text.encode()).hexdigest(),
            folder / f"{fill}-{name}" if name in WEIGHTS else text.encode(),
        )
        for name, text in texts.items()
    )


class Scene:
    """A repository with an old release in it, and a new one to push; `restore` puts the Hub back, so that one scene serves many pushes."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.old, self.new = release(folder, "old"), release(folder, "new")
        self.repository = hub.state.create("model", REPO)
        assert self.push(PushOrder(self.old, "the old one")) == ""
        self._head = dict(self.repository.commits), dict(self.repository.branches)
        self._blobs = {path.name for path in (hub.folder / "blobs").iterdir()}
        self.restore()

    def order(self, **more: Any) -> PushOrder:
        return PushOrder(self.new, "the new one", tag="v2", collection="Pocket", **more)

    def push(self, order: PushOrder | None = None) -> str:
        """Pushes the new release, or what `order` says; what the user sees of an error, "" if there was none."""
        try:
            push(client.Hub(REPO), order or self.order(), lambda _: None)
        except PublishError as error:
            return error_line(error)
        return ""

    def state(self) -> str:
        """What the repository holds: 'old', 'new' or 'a mixture'."""
        held = {path: entry.sha256 for path, entry in self.repository.files.items() if path != ".gitattributes"}
        wanted = {"old": self.old, "new": self.new}
        return next((n for n, files in wanted.items() if held == {f.path: f.sha256 for f in files}), "a mixture")

    def is_whole(self) -> bool:
        """Whether the Hub has the bytes of all that the repository lists."""
        path = self.hub.state.blobs.path
        return all(path(entry.sha256).stat().st_size == entry.size for entry in self.repository.files.values())

    def restore(self) -> None:
        """The Hub with the old release only, and no faults."""
        self.hub.settle()
        self.hub.script, self.hub.received = Script(), 0
        self.repository.commits, self.repository.branches = dict(self._head[0]), dict(self._head[1])
        self.repository.tags = {}
        self.hub.state.collections = {}
        for path in [*(self.hub.folder / "blobs").iterdir(), *(self.hub.folder / "parts").iterdir()]:
            if path.name not in self._blobs:
                path.unlink()


def plain(text: str, hub: Hub) -> str:
    """Text without what differs from run to run: addresses and commits."""
    text = text.replace(hub.endpoint, "https://huggingface.co")
    return re.sub(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b", "COMMIT", text)
