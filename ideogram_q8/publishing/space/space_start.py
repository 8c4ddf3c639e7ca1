"""Starts an assembled Space as the Hub would, and waits for its page: the last check before it is pushed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.space.space import PYTHON

PATIENCE = 600.0
"""Seconds for a Space to show its page."""


def check_fresh(folder: Path, entry: str, gradio: str, interpreter: str = f"python{PYTHON}") -> None:
    """Makes a virtual environment from the Space's requirements, as the Hub does, and starts the Space in it.

    Args:
        interpreter: the Python to make it with; the default is the one that the Space will run on.

    Raises PublishError: there is no such Python, pip fails, or the Space does not start.
    """
    python = shutil.which(interpreter)
    if python is None or not _works(python):
        raise PublishError(
            f"there is no {interpreter} that runs, and the Space will run on Python {PYTHON}; name one with --python, or use --check here"
        )
    with tempfile.TemporaryDirectory() as place:
        own = str(Path(place) / "bin" / "python")
        wanted = [f"gradio[oauth]=={gradio}", "-r", str(folder / "requirements.txt")]
        for doing, command in (
            ("making its virtual environment", [python, "-m", "venv", place]),
            ("installing its requirements", [own, "-m", "pip", "install", "--quiet", *wanted]),
        ):
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise PublishError(f"{doing} failed for the Space: {_end(done.stderr)}; correct it, or use --check here")
        check_start(folder, entry, own)


def _works(python: str) -> bool:
    """Whether it is a Python, and not a version manager's stand-in for one that is not chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def check_start(folder: Path, entry: str, python: str = sys.executable, patience: float = PATIENCE) -> None:
    """Starts the Space with an interpreter, from its folder alone, until its page is there.

    Raises PublishError: it ends before, or the page does not come.
    """
    with running(folder, entry, python) as space:
        wait_for(space, patience)


class Running(NamedTuple):
    """A Space's process, the address of its page, and what it has printed so far."""

    process: subprocess.Popen[bytes]
    address: str
    said: Callable[[], str]


@contextmanager
def running(folder: Path, entry: str, python: str = sys.executable) -> Iterator[Running]:
    """A Space, until the block ends. Only the folder's own modules are on the path."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen([python, entry], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Running(process, f"http://127.0.0.1:{port}", lambda: Path(log.name).read_text(errors="replace"))
        finally:
            process.kill()
            process.wait()


def wait_for(space: Running, patience: float = PATIENCE) -> None:
    """Returns when a Space's page is there. Raises PublishError: it ends before, or the page does not come."""
    end = time.monotonic() + patience
    while not _answers(space.address):
        code = space.process.poll()
        if code is not None or time.monotonic() > end:
            what = f"ended with exit code {code}" if code is not None else f"showed no page in {patience:.0f} s"
            raise PublishError(f"the Space {what}: {_end(space.said())}; correct it, then run the same command again")
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/config", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(text: str) -> str:
    """The last lines, or those that pip calls errors."""
    text = "\n".join(line for line in text.splitlines() if line.startswith("ERROR")) or text
    return " ".join(text[-1000:].split())
