"""A greedy client: `python -m tests.ui.greedy [--out FILE]` starts the app and sends it 6,000 empty sessions, three uploads of 60 MB and a
body of 400 MB, while another visitor asks for the page's settings. Ends with one JSON object: the app's memory, and the other's seconds.

The app ends unused sessions after `--idle` seconds here, so that what comes back is seen without waiting for half an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.ui.conftest import ROOT
from tests.ui.start import _answers, _free_port

SESSIONS, UPLOAD_BYTES, BODY_BYTES = 6000, 60 * 10**6, 400 * 10**6
_AT_ONCE = 8
_PIECE = bytes(2**20)
_START = """
import sys
from ideogram_q8.commands.app import main
from ideogram_q8.ui import page
from ideogram_q8.ui.engine import line
line.IDLE_SECONDS = page._SWEEP_SECONDS = {}
sys.exit(main())
"""
_MULTIPART = "multipart/form-data; boundary=b"


class App:
    """A running app of its own, on a port of this computer."""

    def __init__(self, folder: Path, idle: float) -> None:
        self.port = _free_port()
        command = [sys.executable, "-c", _START.format(idle), "--port", str(self.port), "--outputs", str(folder / "outputs")]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"XDG_CACHE_HOME": str(folder)}, **quiet)
        while not _answers(f"http://127.0.0.1:{self.port}/"):
            time.sleep(0.1)

    def resident(self) -> int:
        """Megabytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(text.partition("VmRSS:")[2].split()[0]) // 1000

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> str:
        """The status, or that the server hung up before it had read everything."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return str(answer.status)
        except (ConnectionError, http.client.HTTPException):
            return "hung up"
        finally:
            connection.close()

    def start_button(self) -> int:
        """The number of the event that the Generate button calls first: it is what invented sessions pressed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", "/config")
        config = json.loads(connection.getresponse().read())
        connection.close()
        button = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "q8-generate")
        return next(
            int(each["id"])
            for each in config["dependencies"]
            if [button, "click"] in each["targets"] and each["outputs"] and not each["inputs"]
        )


def _zeros(count: int) -> Iterator[bytes]:
    for _ in range(count // len(_PIECE)):
        yield _PIECE


def _sessions(app: App, count: int) -> dict[str, int]:
    button = app.start_button()

    def press(number: int) -> str:
        body = json.dumps({"data": [], "fn_index": button, "session_hash": f"invented-{number}"})
        return app.ask("POST", "/gradio_api/run/predict", body, **{"Content-Type": "application/json"})

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(Counter(pool.map(press, range(count))))


def _uploads(app: App) -> dict[str, int]:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + bytes(UPLOAD_BYTES) + b"\r\n--b--\r\n"
    return dict(Counter(app.ask("POST", "/gradio_api/upload", body, **{"Content-Type": _MULTIPART}) for _ in range(3)))


def _large_body(app: App) -> dict[str, int]:
    headers = {"Content-Type": "application/json", "Content-Length": str(BODY_BYTES)}
    return dict(Counter([app.ask("POST", "/gradio_api/run/lint_caption", _zeros(BODY_BYTES), **headers)]))


def _watched(app: App, greedy: Callable[[App], dict[str, int]]) -> dict[str, Any]:
    """What a greedy deed was answered, the largest memory meanwhile, and the slowest answer to another visitor."""
    ended, waits, sizes = threading.Event(), [0.0], [app.resident()]

    def watch() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            assert app.ask("GET", "/gradio_api/info") == "200"
            waits.append(time.perf_counter() - began)
            sizes.append(app.resident())
            ended.wait(0.1)

    other = threading.Thread(target=watch)
    other.start()
    began = time.perf_counter()
    answers = greedy(app)
    seconds = time.perf_counter() - began
    ended.set()
    other.join()
    slowest = round(max(waits), 2)
    return {"answers": answers, "seconds": round(seconds, 1), "largest_mb": max(sizes), "others_slowest_seconds": slowest}


def measure(sessions: int, idle: float) -> dict[str, Any]:
    """The figures of one app, one deed after the other."""
    with tempfile.TemporaryDirectory() as folder:
        app = App(Path(folder), idle)
        try:
            time.sleep(20)  # what paints is imported meanwhile
            found: dict[str, Any] = {"before_mb": app.resident()}
            print(found, file=sys.stderr, flush=True)
            for name, greedy in (
                ("sessions", partial(_sessions, count=sessions)),
                ("uploads", _uploads),
                ("body", _large_body),
            ):
                found[name] = _watched(app, greedy)
                print(found, file=sys.stderr, flush=True)
            time.sleep(5)
            found["after_mb"] = app.resident()
            time.sleep(2 * idle + 5)
            found["sessions_ended_mb"] = app.resident()
            return found | {"load_average": round(os.getloadavg()[0], 1)}
        finally:
            app.process.kill()
            app.process.wait()


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(measure(options.sessions, options.idle), indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
