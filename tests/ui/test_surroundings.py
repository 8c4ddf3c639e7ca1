"""The app starts behind whatever proxies and settings the environment names, and goes round none of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import httpx
import pytest

from ideogram_q8.commands import app
from ideogram_q8.errors import RequestError
from ideogram_q8.ui.engine import surroundings
from ideogram_q8.ui.engine.surroundings import settle, without_unusable_proxies
from tests.ui.conftest import ROOT

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of a proxy is set."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_this_computer_is_exempt_and_nothing_else(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("http_proxy", DEAD)
    clean.setenv("NO_PROXY", "example.org")
    settle("192.168.1.5")
    for host in ("localhost", "127.0.0.1", "::1", "192.168.1.5", "example.org"):
        assert urllib.request.proxy_bypass_environment(host)
    assert not urllib.request.proxy_bypass_environment("huggingface.co")
    assert urllib.request.getproxies()["http"] == DEAD


def test_proxies_that_the_system_keeps_elsewhere_stay(clean: pytest.MonkeyPatch) -> None:
    """httpx asks Windows' registry only where no variable is set."""
    clean.setattr(
        urllib.request, "getproxies", lambda: {"http": "http://proxy:1", "https": "http://proxy:2", "ftp": "http://proxy:3"}
    )
    environment: dict[str, str] = {}
    settle("::1", environment)
    assert (environment["http_proxy"], environment["https_proxy"]) == ("http://proxy:1", "http://proxy:2")
    assert environment["no_proxy"] == environment["NO_PROXY"] == "localhost,127.0.0.1,::1"


EXEMPTIONS = {
    "[::1]": "::1",
    "::1/128": "::1",
    "fd00::/8": None,
    "10.0.0.0/8": "10.0.0.0/8",
    ".local": ".local",
    "*": "*",
    "example.org:8080": "example.org:8080",
    "http://example.org": "http://example.org",
    "[::1]x": None,
    "a b": None,
    "": None,
}


@pytest.mark.parametrize(("text", "kept"), EXEMPTIONS.items())
def test_exemptions_are_such_as_httpx_reads(text: str, kept: str | None, clean: pytest.MonkeyPatch) -> None:
    clean.setenv("no_proxy", f"{text}, nothing.example")
    settle("127.0.0.1")
    places = os.environ["no_proxy"].split(",")
    assert (kept is None or kept in places) and ("nothing.example" in places or places == ["*"])
    httpx.Client().close()


def test_settings_that_options_replace_are_taken_out(clean: pytest.MonkeyPatch) -> None:
    environment = {
        "GRADIO_SERVER_PORT": "abc",
        "GRADIO_SERVER_NAME": "elsewhere",
        "GRADIO_SHARE": "true",
        "GRADIO_ROOT_PATH": "/x",
    }
    settle("127.0.0.1", environment)
    assert {name for name in environment if name.startswith("GRADIO")} == {"GRADIO_ROOT_PATH"}


UNUSABLE = (
    "socks5://127.0.0.1:9",
    "socks4://127.0.0.1:9",
    "ftp://proxy:1",
    "http://:",
    "http://proxy:port",
    "://",
    "http://[::1",
)


@pytest.mark.parametrize("proxy", UNUSABLE)
@pytest.mark.parametrize("name", ["ALL_PROXY", "http_proxy", "https_proxy"])
def test_a_proxy_that_httpx_refuses_is_out_of_sight_and_not_gone_round(
    clean: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    clean.setattr(surroundings.importlib.util, "find_spec", lambda _: None)
    clean.setenv(name, proxy)
    settle("127.0.0.1")
    with without_unusable_proxies(), httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get("https://example.invalid" if name != "http_proxy" else "http://example.invalid")
    assert os.environ[name] == proxy


@pytest.mark.parametrize("proxy", ["http://proxy:3128", "proxy:3128", "https://someone:secret@proxy", "http://[::1]:3128"])
def test_other_proxies_stay(clean: pytest.MonkeyPatch, proxy: str) -> None:
    clean.setenv("https_proxy", proxy)
    with without_unusable_proxies():
        assert os.environ["https_proxy"] == proxy


def test_socks_stays_where_it_is_spoken(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(surroundings.importlib.util, "find_spec", lambda name: name)
    clean.setenv("ALL_PROXY", UNUSABLE[0])
    with without_unusable_proxies():
        assert os.environ["ALL_PROXY"] == UNUSABLE[0]


@pytest.mark.parametrize(
    ("variables", "options", "address"),
    [
        ({"http_proxy": DEAD, "HTTPS_PROXY": DEAD, "no_proxy": "[::1],fd00::/8"}, (), "http://127.0.0.1:"),
        (
            {"ALL_PROXY": "socks5://127.0.0.1:9", "GRADIO_SERVER_PORT": "abc"},
            ("--root-path", "/paint/here/"),
            "http://127.0.0.1:",
        ),
        ({"http_proxy": DEAD}, ("--host", "[::1]"), "http://[::1]:"),
    ],
)
def test_the_app_starts(tmp_path: Path, variables: dict[str, str], options: tuple[str, ...], address: str) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")} | variables
    command = [sys.executable, "app.py", "--port", "0", "--outputs", str(tmp_path / "outputs"), *options]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline()
            assert line.startswith(f"Ideogram Q8 is ready at {address}"), line + process.stdout.read()
            place = line.split()[5]
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{place}healthz") as answer:
                assert json.load(answer)["status"] == "ok"
            with direct.open(f"{place}config") as answer:
                root = json.load(answer)["root"]
            assert root.endswith("/paint/here" if "--root-path" in options else place.rstrip("/"))
        finally:
            watchdog.cancel()
            process.send_signal(signal.SIGINT)
            process.wait(60)
            process.kill()


@pytest.mark.parametrize("path", ["", "/", "/paint", "/a/b-c.d/", "https://example.org", "https://example.org:8080/paint"])
def test_places_behind_a_proxy(path: str, tmp_path: Path) -> None:
    assert app.parse(["--root-path", path, "--outputs", str(tmp_path)]).root_path == path


@pytest.mark.parametrize("path", ["paint", "/a b", "//elsewhere", "https://", "javascript:alert(1)", "/paint?x", '/"><script>'])
def test_places_that_are_none(path: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--root-path is .*; expected a path as /paint"):
        app.parse(["--root-path", path, "--outputs", str(tmp_path)])


def test_the_place_behind_a_proxy_comes_from_gradios_own_variable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/paint")
    assert app.parse(["--outputs", str(tmp_path)]).root_path == "/paint"
