"""From `python app.py` to the first byte of the page: `python -m tests.ui.start [--runs 3] [--out FILE]`, each run a process of its own.

The embedded model, files in the system's cache from the first run on. Processor seconds are those of the whole process until then: on a
busy machine they say what seconds by the clock would be on a quiet one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.ui.conftest import ROOT

GIVE_UP_SECONDS = 300
_ASK_SECONDS = 0.02


def start(folder: Path) -> tuple[float, float]:
    """Seconds by the clock, and of processors, until the page's first byte; the server's files go to `folder`."""
    address = f"127.0.0.1:{_free_port()}"
    command = [sys.executable, "app.py", "--port", address.partition(":")[2], "--outputs", str(folder / "outputs")]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(f"http://{address}/"):
            if process.poll() is not None or time.perf_counter() - began > GIVE_UP_SECONDS:
                raise AssertionError("the app ended, or gave no page")
            time.sleep(_ASK_SECONDS)
        return time.perf_counter() - began, _processor_seconds(process.pid)
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=GIVE_UP_SECONDS) as answer:
            return bool(answer.status == 200 and answer.read(1))
    except (urllib.error.URLError, ConnectionError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _processor_seconds(pid: int) -> float:
    """User's and system's time of a process; see proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(runs: int) -> dict[str, Any]:
    """The figures of several starts, one after the other."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append(start(Path(folder)))
    return {
        "seconds_to_first_byte": [round(clock, 2) for clock, _ in found],
        "processor_seconds": [round(busy, 2) for _, busy in found],
        "processors": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        **{name: importlib.metadata.version(name) for name in ("gradio", "torch")},
        "python": platform.python_version(),
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(measure(options.runs), indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
