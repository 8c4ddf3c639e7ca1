"""Log-ins before everything that is not there to log in with: where the app has accounts, a route answers nobody else unless it is named.

The third of the ASGI middlewares that a `GuardedApp` has before Gradio. Gradio 6.31 checks the log-in route by route, and leaves it out of
`cancel`, `reset`, `heartbeat` and what `--mcp` adds (gradio/routes.py). Where a later Gradio checks it everywhere, this module can go.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ideogram_q8.ui.doors.middleware import API

FOR_ANYBODY = re.compile(
    r"/|/healthz|/login/?|/logout|/theme\.css|/robots\.txt|/favicon\.ico|/manifest\.json|/pwa_icon(/.*)?|/(static|assets|svelte)/.*"
    rf"|{API}/(user|app_id|startup-events)/?|{API}/theme\.css",
    re.DOTALL,
)
"""Paths that show the log-in, and say nothing of anybody: the page without its settings, its scripts and styles, who asks (nobody)."""


class LoggedIn:
    """The middleware. `server` is Gradio's, which knows its accounts and who has logged in."""

    def __init__(self, app: ASGIApp, server: Any) -> None:
        self.app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401 as Gradio does to a visitor without a log-in; passes on the rest."""
        if scope["type"] == "http" and not (FOR_ANYBODY.fullmatch(scope["path"]) or self._may(HTTPConnection(scope))):
            await JSONResponse({"detail": "Not authenticated"}, 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _may(self, connection: HTTPConnection) -> bool:
        """Whether there are no accounts, or the cookie is one that Gradio gave to an account."""
        server = self._server
        if server.auth is None:
            return True
        names = (f"access-token-{server.cookie_id}", f"access-token-unsecure-{server.cookie_id}")
        return any(connection.cookies.get(name) in server.tokens for name in names)
