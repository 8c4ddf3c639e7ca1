"""What the command line opens and closes: accounts, the queue, the folder of pictures, sharing, MCP."""

from __future__ import annotations

import importlib.util
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio_client import Client

from ideogram_q8.commands import app
from ideogram_q8.errors import RequestError
from ideogram_q8.ui.page import Serving, serve
from tests.ui.conftest import ROOT, serving

pytestmark = pytest.mark.slow

WAIT = 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann:secret\nbob\n", "line 2 is not NAME:PASSWORD"),
        (":secret", "line 1 is not NAME:PASSWORD"),
        ("# nobody yet\n\n", "names nobody"),
        (b"\xff\xfe", "expected a text file"),
        (None, "No such file"),
    ],
)
def test_accounts_that_cannot_be_read_are_refused(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    path = tmp_path / "accounts"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=message) as caught:
        app.parse(["--auth", str(path)])
    assert "secret" not in str(caught.value)


def test_accounts(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_text("# us\nann:a:b\n\nbob:c\n", encoding="utf-8")
    assert app.parse(["--auth", str(path)]).auth == [("ann", "a:b"), ("bob", "c")]


@pytest.mark.parametrize("folder", [Path.home(), Path("/"), ROOT, ROOT.parent])
def test_a_folder_with_more_than_pictures_is_not_served(folder: Path) -> None:
    with pytest.raises(RequestError, match="name a folder for pictures alone"):
        app.parse(["--outputs", str(folder)])


def test_a_queue_has_room(capsys: pytest.CaptureFixture) -> None:
    assert app.parse(["--max-queue", "1"]).max_queue == 1
    with pytest.raises(RequestError, match="--max-queue is 0; expected 1 or more"):
        app.parse(["--max-queue", "0"])


def test_mcp_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'gradio\[mcp\]'"):
        app.parse(["--mcp"])


@pytest.mark.parametrize("share", [False, True])
def test_only_share_opens_a_tunnel(tmp_path: Path, share: bool) -> None:
    asked: dict[str, Any] = {}

    def launch(**arguments: Any) -> tuple[Any, str, str | None]:
        asked.update(arguments)
        return SimpleNamespace(add_api_route=lambda *route: None), "http://here/", "https://shared/" if share else None

    serving = Serving("127.0.0.1", 1, None, app.parse(["--share"] if share else []).share)
    page: Any = SimpleNamespace(launch=launch)
    studio: Any = SimpleNamespace(
        outputs=tmp_path, temporary=tmp_path / "temporary", copies=SimpleNamespace(expire=lambda _: None)
    )
    assert serve(page, studio, serving) == ("https://shared/" if share else "http://here/")
    assert asked["share"] is share and serving.is_private is not share
    assert asked["allowed_paths"] == [str(tmp_path)] and asked["server_name"] == "127.0.0.1"


def test_accounts_and_a_short_queue_on_a_server(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_text("ann:secret\n", encoding="utf-8")
    with serving(tmp_path, "--auth", str(path), "--max-queue", "1") as server:
        assert _status(server.address, "config") == _status(server.address, "gradio_api/info") == 401
        assert _log_in(server.address, "wrong") == 400
        assert _log_in(server.address, "secret") == 200
        first, second, third = (Client(server.address, auth=("ann", "secret"), verbose=False) for _ in range(3))
        running = _submit(first)
        next(update for update in running if "step 1 of" in str(update))  # it has its turn
        waiting = _submit(second)
        while waiting.status().code.name != "IN_QUEUE":
            time.sleep(0.05)
        with pytest.raises(Exception, match="[Qq]ueue is full"):
            _submit(third).result(WAIT)
        _cancel(first)
        assert "Cancelled at step" in running.result(WAIT)[1]
        next(update for update in waiting if "step 1 of" in str(update))  # now it has its turn
        _cancel(second)
        assert "Cancelled at step" in waiting.result(WAIT)[1]
        for client in (first, second, third):
            client.close()


def _submit(client: Client) -> Any:
    return client.submit("int8", "a red house", "custom", 64, 64, 1, 200, 3.0, 1, api_name="/generate")


def _cancel(client: Client) -> None:
    """As a browser does, without a turn in the queue, which is full."""
    body = json.dumps({"data": [], "session_hash": client.session_hash}).encode()
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    headers = {"Content-Type": "application/json", "Cookie": cookie}
    urllib.request.urlopen(
        urllib.request.Request(f"{client.src}gradio_api/run/cancel_generate", body, headers), timeout=WAIT
    ).close()


def _status(address: str, path: str) -> int:
    try:
        with urllib.request.urlopen(address + path, timeout=WAIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _log_in(address: str, password: str) -> int:
    """The status of the page's configuration for who logged in, or of the refusal."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    data = urllib.parse.urlencode({"username": "ann", "password": password}).encode()
    try:
        opener.open(address + "login", data, timeout=WAIT).close()
        with opener.open(address + "config", timeout=WAIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
