"""The real server in a child process, with temporary cache and outputs folders; a browser on it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.conftest import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
"""Importing torch takes long on a busy machine."""


SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run"]


@dataclass(frozen=True)
class Server:
    address: str
    outputs: Path
    cache: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests."""
    with serving(tmp_path_factory.mktemp("app")) as server:
        yield server


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """A server with its cache and its outputs in `folder`."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "app.py", "--port", "0", "--variant", "int8", "--outputs", str(folder / "outputs"), *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - one system call, which no lock of another thread can hold up
    )
    assert process.stdout is not None
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        address = _address(process.stdout)
        watchdog.cancel()
        reader.start()  # keeps the pipe empty
        yield Server(address, folder / "outputs", folder / "cache")
    finally:
        watchdog.cancel()
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(START_SECONDS)
        finally:
            process.kill()
            if reader.is_alive():
                reader.join(60)
            process.stdout.close()
    assert code == 130, f"Ctrl-C ended the server with {code}"


def _heed_ctrl_c() -> None:
    """Shells start background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _address(output: IO[str]) -> str:
    """Reads what the server prints until it says where it listens."""
    printed = []
    for line in output:
        printed.append(line)
        found = re.search(r"ready at (http://127\.0\.0\.1:\d+/)", line)
        if found:
            return found[1]
    raise AssertionError("the server ended before it was ready:\n" + "".join(printed))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file: between them no event loop runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES, timeout=START_SECONDS * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One visitor."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: Server) -> Iterator[Page]:
    """The visitor's freshly loaded page that paints 64x64 in a few steps."""
    from tests.ui.browsing import paint_small, visit

    page = visit(context, server)
    paint_small(page)
    yield page
    if not page.is_closed():
        page.evaluate("localStorage.removeItem('ideogram-q8-form')")  # the next test's form is that of a new visitor
    page.close()
