"""Many clients at once: `python -m tests.ui.load ADDRESS [--clients 50] [--out FILE]`; the server runs already.

A quarter of the clients cancels, a quarter drops its connection, all at their first sight of a step; the rest wait for their picture.
Every job must end in a picture, a cancel, a drop or a message; ends with one JSON object, and exit code 1 if a job was lost.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WAIT = 600
CAPTION = "a yellow star on a blue background"
FATES = ("waits", "cancels", "waits", "drops")


class Client:
    """One browser, or program: a session of its own."""

    def __init__(self, address: str, number: int) -> None:
        self.place = urllib.parse.urlsplit(address)
        self.session, self.number = f"load-{time.time_ns()}-{number}", number

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.place.hostname or "127.0.0.1", self.place.port, timeout=WAIT)

    def post(self, endpoint: str, data: list[Any], way: str = "call") -> tuple[int, dict[str, Any]]:
        """The status and the answer of a call of an endpoint; the way `run` takes no turn in the queue."""
        connection = self.connect()
        body = json.dumps({"data": data, "session_hash": self.session})
        connection.request("POST", f"/gradio_api/{way}/{endpoint}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def run(self, fate: str, steps: int) -> str:
        """How the job ended: picture, cancelled, dropped, or turned away; else what was seen instead."""
        status, answer = self.post("generate", ["int8", CAPTION, "custom", 64, 64, self.number, steps, 3.0, 1])
        if "event_id" not in answer:
            return "turned away" if status in (429, 503) and answer.get("detail") else f"{status}: {answer}"
        connection = self.connect()
        connection.request("GET", f"/gradio_api/call/generate/{answer['event_id']}")
        stream = connection.getresponse()
        try:
            return self._watch(stream, fate)
        finally:
            connection.close()

    def _watch(self, stream: http.client.HTTPResponse, fate: str) -> str:
        event, asked = "", False
        for line in stream:
            text = line.decode("utf-8").strip()
            if text.startswith("event: "):
                event = text.removeprefix("event: ")
            if not text.startswith("data: "):
                continue
            if event == "error":
                return "turned away" if "queue" in text.lower() else f"error: {text}"
            if event == "complete":
                return (
                    "cancelled" if "Cancelled " in text else "picture" if "Painted with" in text else f"complete: {text[:200]}"
                )
            if event == "generating" and "step " in text and not asked:
                asked = True
                if fate == "drops":
                    return "dropped"
                if fate == "cancels":
                    self.post("cancel_generate", [], "run")
        return "lost: the answer ended"


def alive(address: str) -> bool:
    """Whether the server answers a new client with a picture."""
    return Client(address, 999).run("waits", 2) == "picture"


def load(address: str, clients: int, steps: int) -> dict[str, Any]:
    """Runs them all; counts of how they ended, and the seconds of those that waited."""
    seconds: list[float] = []
    start = threading.Barrier(clients)

    def one(number: int) -> str:
        fate = FATES[number % len(FATES)]
        start.wait()
        began = time.perf_counter()
        ended = Client(address, number).run(fate, steps)
        if ended == "picture":
            seconds.append(time.perf_counter() - began)
        return ended

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        ends = Counter(pool.map(one, range(clients)))
    known = {"picture", "cancelled", "dropped", "turned away"}
    return {
        "clients": clients,
        "steps": steps,
        "ends": dict(sorted(ends.items())),
        "lost": sum(count for end, count in ends.items() if end not in known),
        "seconds": round(time.perf_counter() - began, 1),
        "median_wait_seconds": round(statistics.median(seconds), 1) if seconds else None,
        "answers_afterwards": alive(address),
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = load(options.address, options.clients, options.steps)
    text = json.dumps(found, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(found["lost"] > 0 or not found["answers_afterwards"])


if __name__ == "__main__":
    sys.exit(main())
