"""What one visitor may take: bytes of a request before it is read, uploads an hour, guesses at a password; all by network address.

The second of the ASGI middlewares that `protection` lists. Gradio 6.31 reads bodies of any length into memory, stores uploads without a
limit on their number, and lets passwords be guessed as fast as it answers (gradio/routes.py: upload, login).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import threading
import time
from asyncio import sleep
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.ui.doors.middleware import API, on_space
from ideogram_q8.ui.doors.private import check_disk

HOUR = 3600.0
MAX_UPLOAD_BYTES = 64 * 2**20
"""A PNG of the largest size; Gradio's route for uploads is always open."""
MAX_BODY_BYTES = 2**20
"""Of everything else that is sent: a caption has at most 32,768 characters."""
UPLOADS_AN_HOUR = 512 * 2**20
PICTURES_AN_HOUR = 2 * 2**30
_LOGIN_BYTES = 16 * 2**10
_FORM_BYTES = 64 * 2**10
"""What a form around an upload adds to it."""
_BODY_SECONDS = 60.0
_FREE_GUESSES = 5
_LONGEST_WAIT = 60.0
_DIRECT_CALL = re.compile(rf"{API}/(run|api)/")
_FAULT, _REFUSED = 500, 422
visitor: ContextVar[str] = ContextVar("visitor", default="")
"""The address whose request is being answered."""
_ADDRESSES = 4096
"""Addresses that are remembered; the one that was seen longest ago is forgotten first."""


def address_of(connection: HTTPConnection | None) -> str:
    """Whose request it is: an IPv4 address, or the /64 of an IPv6 one, which is what one visitor has.

    A proxy on this computer, or in uvicorn's FORWARDED_ALLOW_IPS, is believed whom it speaks for; a Space's visitors are whom the Hub's
    proxy, the last in X-Forwarded-For, names.
    """
    host = connection.client.host if connection is not None and connection.client is not None else ""
    if connection is not None and on_space():
        host = connection.headers.get("x-forwarded-for", host).rpartition(",")[2].strip()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


class Quota:
    """An allowance for each address that grows back over an hour. For any number of threads.

    Args:
        most: of whatever is counted; None has no limit.
        what: how the refusal calls it.
    """

    def __init__(self, most: int | None, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.what, self._clock = most, what, clock
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str, amount: int = 1) -> None:
        """Raises RequestError: `amount` is more than is left to the address."""
        with self._lock:
            if self.most is not None and self._level(address) + amount > self.most:
                raise RequestError(f"that is more {self.what} than one visitor may have in an hour; come back later")

    def spend(self, address: str, amount: int) -> None:
        """Counts what was taken."""
        with self._lock:
            self._used[address] = (self._level(address) + amount, self._clock())
            self._used.move_to_end(address)
            while len(self._used) > _ADDRESSES:
                self._used.popitem(last=False)

    def _level(self, address: str) -> float:
        level, at = self._used.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * (self.most or 0) / HOUR)


class Guesses:
    """Failed log-ins of each address: after a few, each next one waits twice as long. Nobody else waits, and nobody is locked out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until the attempt may be looked at. It counts as failed until `succeed`: many at once are no way around."""
        count, free_at = self._failed.pop(address, (0, 0.0))
        now = self._clock()
        if now - free_at > HOUR:
            count = 0
        begin = max(now, free_at)
        pause = min(2.0 ** (count - _FREE_GUESSES), _LONGEST_WAIT / 2) if count >= _FREE_GUESSES else 0.0
        if begin + pause - now > _LONGEST_WAIT:
            self._failed[address] = (count, free_at)
            return begin + pause - now
        self._failed[address] = (count + 1, begin + pause)
        while len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)
        return begin + pause - now

    def succeed(self, address: str) -> None:
        """Forgets what failed."""
        self._failed.pop(address, None)


class _Refused(Exception):
    """What is answered in place of the app: a status, and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Limits:
    """The middleware.

    Args:
        folder: where uploads go.
        uploads: bytes for each address.
    """

    def __init__(self, app: ASGIApp, folder: Path, uploads: Quota | None = None) -> None:
        self.app, self.folder = app, folder
        self.uploads, self.guesses = uploads or Quota(UPLOADS_AN_HOUR, "uploads"), Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused with one line, before its body is read; passes on the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._pass_on(scope, receive, send)
        except _Refused as refused:
            answer = PlainTextResponse(f"{refused}\n", refused.status, {"Connection": "close"})
            await answer(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, address = scope["path"].rstrip("/"), address_of(HTTPConnection(scope))
        visitor.set(address)
        length = _content_length(scope)
        if path == f"{API}/upload":
            self._check_upload(address, length)
            await self.app(scope, self._counted(receive, address), send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            receive = await _read_first(receive, length, _LOGIN_BYTES if path == "/login" else MAX_BODY_BYTES)
        if path == "/login" and scope["method"] == "POST":
            await self._wait(address)
            send = self._forgiving(send, address)
        await self.app(scope, receive, send)

    def _check_upload(self, address: str, length: int | None) -> None:
        if length is not None and length > MAX_UPLOAD_BYTES + _FORM_BYTES:
            raise _Refused(413, f"the upload has {length} bytes; expected at most {MAX_UPLOAD_BYTES}")
        try:
            self.uploads.check(address, length or 1)
            check_disk(self.folder, length or 0)
        except RequestError as error:
            raise _Refused(429, str(error)) from None
        except ResourceError as error:
            raise _Refused(507, str(error)) from None

    def _counted(self, receive: Receive, address: str) -> Receive:
        """The upload's bytes, as far as they may come. Gradio removes its unfinished file after this one kind of exception alone, so a
        broken connection becomes one too."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload was broken off")
            size = len(message.get("body", b""))
            seen += size
            try:
                self.uploads.check(address, size)
            except RequestError as error:
                raise MultiPartException(str(error)) from None
            self.uploads.spend(address, size)
            if seen > MAX_UPLOAD_BYTES + _FORM_BYTES:
                raise MultiPartException(f"the upload exceeds the maximum allowed size of {MAX_UPLOAD_BYTES} bytes")
            return message

        return counted

    async def _wait(self, address: str) -> None:
        seconds = self.guesses.wait(address)
        if seconds > _LONGEST_WAIT:
            raise _Refused(429, f"too many log-ins failed; try again in {seconds:.0f} seconds")
        await sleep(seconds)

    def _forgiving(self, send: Send, address: str) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self.guesses.succeed(address)
            await send(message)

        return sent


def _content_length(scope: Scope) -> int | None:
    """What the client says that it sends; None where it says nothing."""
    given = Headers(scope=scope).getlist("content-length")
    if not given:
        return None
    if len(set(given)) > 1 or not re.fullmatch(r"[0-9]{1,18}", given[0]):
        raise _Refused(400, "Content-Length is no number")
    return int(given[0])


async def _read_first(receive: Receive, length: int | None, most: int) -> Receive:
    """Reads a whole body, and returns what gives it again. Raises _Refused: it has more than `most` bytes, or does not come."""
    if length is not None and length > most:
        raise _Refused(413, f"the request has {length} bytes; expected at most {most}")
    try:
        body = await asyncio.wait_for(_whole(receive, most), _BODY_SECONDS)
    except TimeoutError:
        raise _Refused(408, f"the request did not come within {_BODY_SECONDS:.0f} seconds") from None
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _whole(receive: Receive, most: int) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "the request was broken off")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise _Refused(413, f"the request has more than {most} bytes")
    return bytes(body)


class Refusals:
    """A middleware inside Gradio's: its answer to a direct call that a `gr.Error` refused gets status 422.

    Gradio 6.31 sends 500 for refusals and defects alike (gradio/routes.py, predict); of the two, refusals alone say what was wrong.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Holds the head of an answer with status 500 back until its body is known."""
        head: Message | None = None

        async def sent(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] == _FAULT:
                head = message
                return
            if head is not None:
                await send({**head, "status": _REFUSED} if _explains(message.get("body", b"")) else head)
                head = None
            await send(message)

        calls = scope["type"] == "http" and _DIRECT_CALL.match(scope["path"])
        await self.app(scope, receive, sent if calls else send)


def _explains(body: bytes) -> bool:
    """Whether an answer names an error, which it does of refusals alone."""
    try:
        return bool(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return False
