"""The app in this process, to be looked into, and plain requests to it: what a browser sends, and what no browser would."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.page import Serving, build_page, find_port, serve

WAIT = 120


@dataclass(frozen=True)
class Answer:
    """Header names in lower case; of several of one name, the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


@dataclass(frozen=True)
class Site:
    page: gr.Blocks
    studio: Studio
    port: int

    def routes(self) -> dict[str, set[str]]:
        """Every path of the running server, as it was declared, and its methods."""
        found: dict[str, set[str]] = {}
        waiting = list(self.page.app.routes)
        while waiting:
            route = waiting.pop()
            inner = getattr(route, "original_router", route)  # FastAPI keeps routers that are included as they are
            waiting += list(getattr(inner, "routes", None) or [])
            if getattr(route, "path", ""):
                found.setdefault(route.path, set()).update(getattr(route, "methods", None) or {"GET"})
        return found

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | Sequence[bytes] | None = None
    ) -> Answer:
        """One request, with a Host of the server's own unless `headers` has one; `body` in pieces is sent chunked."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        given = {"Host": f"127.0.0.1:{self.port}"} | dict(headers or {})
        chunked = body is not None and not isinstance(body, bytes)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                connection.request(method, path, body, given, encode_chunked=chunked)
            found = connection.getresponse()
            given = {name.lower(): value for name, value in found.getheaders()}
            stream = given.get("content-type", "").startswith("text/event-stream")  # which may have no end
            return Answer(found.status, given, b"" if stream else found.read())
        finally:
            connection.close()

    def call(self, body: object, way: str = "run/predict", **headers: str) -> Answer:
        """A direct call: `body` has `data`, and `fn_index` where `way` names no endpoint."""
        return self.ask(
            "POST", f"/gradio_api/{way}", {"Content-Type": "application/json", **headers}, json.dumps(body).encode()
        )


@contextmanager
def site(folder: Path, **serving: Any) -> Iterator[Site]:
    """An app on a port of its own; `serving` are fields of `Serving`."""
    studio = Studio("pocket", folder / "outputs", folder / "cache")
    port = find_port("127.0.0.1", 0)
    options = Serving(**({"host": "127.0.0.1", "port": port} | serving))

    async def start() -> gr.Blocks:
        """In a loop: without one, Gradio makes several and closes none."""
        page = build_page(studio, "int8", own_machine=options.is_private)
        serve(page, studio, options)
        return page

    page = asyncio.run(start())
    try:
        yield Site(page, studio, port)
    finally:
        page.close(verbose=False)
        studio.close()
