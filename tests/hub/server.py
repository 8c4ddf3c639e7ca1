"""A Hub on this machine that the real client talks to: `with serve(folder) as hub: HfApi(endpoint=hub.endpoint, token=hub.token)`.

Requests and answers are those that huggingface_hub 1.32 to 2.4 sends and reads (its hf_api.py, lfs.py, _commit_api.py, Apache-2.0).
What a request does is in `routes.py`; here are HTTP, accounts and faults.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from tests.hub import routes
from tests.hub.faults import Fault, Script
from tests.hub.messages import Answer, Request, refused
from tests.hub.state import Account, Refusal, State

TOKEN = "hf_" + "loopback" * 4
PIECE = 1 << 20


@dataclass
class Sent:
    """Bytes of a file that went out, from `start` on."""

    sha256: str
    start: int
    size: int = 0


class Hub:
    """The server's outside: what a test sets up and looks at.

    Attributes:
        received: bytes of large files that arrived.
        sent: what went out of files.
        resumes: whether it heeds the Range of a request.
        pace: seconds between two pieces of a file that goes out; `piece` is their size in bytes.
        part_bytes: large files are asked for in parts of this size; None asks for them whole.
        xet: where clients that speak xet store, instead of here.
        hang: seconds that a request hangs with the fault of that name.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "blobs").mkdir(parents=True)
        (folder / "parts").mkdir()
        self.folder = folder
        self.state = State(folder / "blobs")
        self.state.accounts[TOKEN] = Account("someone")
        self.script = Script()
        self.token, self.endpoint = TOKEN, ""
        self.received = 0
        self.sent: list[Sent] = []
        self.resumes = True
        self.pace, self.piece = 0.0, PIECE
        self.part_bytes: int | None = None
        self.xet: Path | None = None
        self.hang = 1.0
        self.lock = threading.Lock()
        self._carried_out = threading.Condition()
        self._under_way = 0

    @contextlib.contextmanager
    def carrying_out(self) -> Iterator[None]:
        """Around what changes the Hub."""
        with self._carried_out:
            self._under_way += 1
        try:
            yield
        finally:
            with self._carried_out:
                self._under_way -= 1
                self._carried_out.notify_all()

    def settle(self, seconds: float = 60.0) -> None:
        """Waits for what is still being carried out: a client that lost patience leaves its request behind."""
        with self._carried_out:
            assert self._carried_out.wait_for(lambda: self._under_way == 0, seconds), "a request does not end"


class Body:
    """A request's body; with a fault, cut in half."""

    def __init__(self, handler: Handler, cut: bool) -> None:
        self._handler = handler
        self.size = int(handler.headers.get("Content-Length") or 0)
        self._cut = cut

    def pieces(self) -> Iterator[bytes]:
        """What was sent and is not read yet, or half of it; the other half is what the next call gives."""
        left = self.size // 2 if self._cut else self.size
        self._cut = False
        while left:
            piece = self._handler.rfile.read(min(left, PIECE))
            if not piece:
                raise ConnectionError("the client went away")
            left -= len(piece)
            self.size -= len(piece)
            yield piece

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> dict:
        return json.loads(self.read() or b"{}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def handle_one(self) -> None:
        url = urlsplit(self.path)
        with self.hub.lock:
            fault = self.hub.script.take(self.command, url.path)
        if self.headers.get("Transfer-Encoding"):
            raise NotImplementedError("no chunked bodies: the client knows the sizes of what it sends")
        body = Body(self, cut=fault is not None and fault.kind in ("truncate", "short"))
        hangs = fault is not None and fault.kind == "hang"  # which changes nothing, so nobody need wait for it
        with contextlib.nullcontext() if hangs else self.hub.carrying_out():
            answer = self._carry_out(fault, url, body)
        if answer is None:
            return
        if fault and fault.kind in ("truncate", "lose answer"):
            self._cut_off()
        else:
            self.send(answer, rest=body, half=fault is not None and fault.kind == "break")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_one  # noqa: N815

    def _carry_out(self, fault: Fault | None, url: SplitResult, body: Body) -> Answer | None:
        """None where a fault took the place of what was asked for."""
        try:
            if fault and self._happens(fault, body):
                return None
            query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
            return routes.answer(Request(self.hub, self.command, unquote(url.path), query, body, self._account(), self.headers))
        except Refusal as refusal:
            return refused(refusal)

    def _happens(self, fault: Fault, body: Body) -> bool:
        """Whether the fault takes the place of what was asked for."""
        if fault.kind == "truncate":
            for _ in body.pieces():
                pass
            self._cut_off()
        elif fault.kind in ("close", "hang"):
            time.sleep(self.hub.hang if fault.kind == "hang" else 0)
            self._cut_off()
        elif fault.kind == "status":
            answer = refused(Refusal(fault.status, f"injected {fault.status}"))
            self.send(Answer(answer.status, {**answer.headers, **fault.headers}, answer.content), rest=body)
        elif fault.call:
            fault.call()
            if fault.kind == "kill":
                self._cut_off()
        return fault.kind in ("truncate", "close", "hang", "status", "kill")

    def _cut_off(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _account(self) -> Account | None:
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return self.hub.state.accounts.get(token) if kind == "Bearer" else None

    def send(self, answer: Answer, rest: Body, half: bool = False) -> None:
        for _ in rest.pieces():  # what was not asked for must be read all the same, or the connection breaks
            pass
        self.send_response(answer.status)
        size = answer.content.stat().st_size if isinstance(answer.content, Path) else len(answer.content)
        for key, value in {"Content-Length": str(size), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(answer.content, Path):
            self._send_file(answer.content, answer.start, (size - answer.start) // (2 if half else 1))
        else:
            self.wfile.write(answer.content)
        if half:
            self._cut_off()

    def _send_file(self, path: Path, start: int, left: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            sent = Sent(path.name, start)
            self.hub.sent.append(sent)
            while left and (piece := file.read(min(left, self.hub.piece))):
                self.wfile.write(piece)
                left -= len(piece)
                sent.size += len(piece)
                time.sleep(self.hub.pace)

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *arguments: object) -> None:
        """Clients that go away are part of the tests."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """A Hub with the account `someone`, until the block ends."""
    hub = Hub(folder)
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
