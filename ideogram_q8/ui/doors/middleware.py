"""Who may talk to the app: every request's Host must be a name that is served, its Origin the app's own, its route one that the page needs.

The first of the ASGI middlewares that `protection` lists; Gradio gets only what passes. Gradio 6.31 compares origins only where Host is
literally a loopback name, never looks at Host itself, reflects any origin elsewhere, sets its login cookie to SameSite=None and allows
framing (gradio/route_utils.py, CustomCORSMiddleware; gradio/routes.py, login). Where a later Gradio closes that, this module can go.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ideogram_q8.errors import RequestError

API = "/gradio_api"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#@]+)")
_STANDARD_PORTS = {"http": "80", "https": "443"}
_SPACES = ".hf.space"
_POLICY_VIOLATION = 1008
"""The close code of a refused websocket (RFC 6455, 7.4.1)."""

OPEN_ROUTES = re.compile(
    r"/|/healthz|/login(/.*)?|/logout|/config/?|/theme\.css|/robots\.txt|/favicon\.ico|/manifest\.json|/pwa_icon(/.*)?"
    r"|/(static|assets|svelte)/.*"
    rf"|{API}/(user|login_check|app_id|info|startup-events|cancel|reset|upload)/?"
    rf"|{API}/(openapi\.json|theme\.css|upload_progress|mcp(/.*)?|queue/(join|data)|(call|run|api|heartbeat)/.*)"
    rf"|{API}/file=(?!https?:).*",
    re.DOTALL,
)
"""Paths that Gradio's page, its clients and this app use. All others are closed: Gradio has routes that edit its source (vibe-*), fetch
addresses for visitors (proxy=, file=http://...), record, profile, or keep what a visitor sends (deep_link), all without use here."""


@dataclass(frozen=True)
class Names:
    """The hosts that a server answers for.

    Args:
        hosts: in lower case, without ports or brackets.
        public: (host, port) under which a proxy is reached that may send another Host; an empty port is https's or http's own. Their
            pages may call the server too.
        addresses: answer for any IP address in place of a name. No name can be rebound to look like one.
        on_space: the server is a Space: the Hub's page frames it, and its proxy has the visitor's address.
    """

    hosts: frozenset[str]
    public: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    addresses: bool = False
    on_space: bool = False

    def serve(self, authority: str) -> bool:
        """Whether `authority`, a Host header, is one of the names, with any port."""
        found = _AUTHORITY.fullmatch(authority)
        name = _normal(found["host"]) if found else ""
        public = {host for host, _ in self.public}
        under = self.on_space and name.endswith(_SPACES)  # the Hub gives each replica a name of its own
        return name in self.hosts or name in public or under or (self.addresses and _is_address(name))

    def own(self, origin: str, authority: str) -> bool:
        """Whether a page of `origin` is the app's own where it was reached as `authority` (a Host header)."""
        came = _ORIGIN.fullmatch(origin)
        if came is None:
            return False
        standard = _STANDARD_PORTS[came["scheme"]]  # a proxy that ends TLS makes of https://name a Host without a port
        page, here = (_host_and_port(each, standard) for each in (came["authority"], authority))
        return page is not None and (page == here or page in self.public)


def on_space() -> bool:
    """Whether this process is a Space of the Hub, which is public, and reached through the Hub's proxy alone."""
    return bool(os.environ.get("SPACE_ID"))


def names(host: str, allowed: Iterable[str] = ()) -> Names:
    """The names of a server that listens on `host`: loopback's, `host`, the computer's own where it listens everywhere, those of
    `allowed` (option --allowed-host), and the Space's where it is one.

    Raises:
        RequestError: one of `allowed` is no name.
    """
    space = [name for name in os.environ.get("SPACE_HOST", "").split(",") if name]
    everywhere = host in _EVERY_ADDRESS
    computer = {socket.gethostname(), f"{socket.gethostname()}.local", socket.getfqdn()} if everywhere else {host}
    return Names(
        LOOPBACK | {_normal(name) for name in computer},
        frozenset(_public(name) for name in (*allowed, *space)),
        everywhere,
        on_space(),
    )


def _public(name: str) -> tuple[str, str]:
    found = _host_and_port(name)
    if found is None:
        raise RequestError(
            f"--allowed-host is {name[:80]!r}; expected a name as in an address bar, as app.example or app.example:8443"
        )
    return found


def _host_and_port(authority: str, standard: str = "") -> tuple[str, str] | None:
    """Host and port of `host[:port]`, the port empty where it is `standard`; None where it is of another form."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else (_normal(found["host"]), "" if found["port"] in (None, standard) else found["port"])


def _normal(host: str) -> str:
    """A host as it is compared: no brackets, lower case, addresses in their shortest form. A trailing dot stays, and is another name."""
    bare = host.strip("[]").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Doors:
    """The middleware. `names` is called for each request: the address of --share is known only after the start."""

    def __init__(self, app: ASGIApp, names: Callable[[], Names]) -> None:
        self.app, self._names = app, names

    @property
    def names(self) -> Names:
        """The names that the app answers to now."""
        return self._names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused with one line; passes on the rest, and adds to the answer who may frame it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, self._with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal[1]})
        else:
            await PlainTextResponse(refusal[1] + "\n", refusal[0], dict(self._headers()))(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason; None where the request may pass."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self.names.serve(hosts[0]):
            return 400, "this name is not served here; start the app with --allowed-host NAME to serve it"
        if len(origins) > 1 or not all(self.names.own(origin, hosts[0]) for origin in origins):
            return 403, "this page is not the app's own, and pages of others may not call it"
        if (
            not origins
            and headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            and not self._follows(scope, headers)
        ):
            return 403, "this page is not the app's own, and pages of others may only link to it"
        if not OPEN_ROUTES.fullmatch(scope["path"]):
            return 404, "there is nothing here; the page is at /"
        return None

    def _follows(self, scope: Scope, headers: Headers) -> bool:
        """Whether a visitor followed a link here, which a page of others may have: that shows a page, and changes nothing."""
        into = ("document", "iframe") if self.names.on_space else ("document",)
        navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in into
        return navigates and scope.get("method") in ("GET", "HEAD") and scope["path"] != "/logout"

    def _headers(self) -> Iterator[tuple[str, str]]:
        yield "X-Content-Type-Options", "nosniff"
        if not self.names.on_space:
            yield "Content-Security-Policy", "frame-ancestors 'none'"
            yield "X-Frame-Options", "DENY"

    def _with_headers(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers():
                    headers.append(name, value)
                if not self.names.on_space:
                    message["headers"] = [_kept_at_home(*header) for header in message["headers"]]
            await send(message)

        return sent


def _kept_at_home(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header; of one that sets a cookie, the form that goes along with links from other sites, and with nothing else of theirs."""
    if name.lower() != b"set-cookie":
        return name, value
    bare = re.sub(rb";\s*samesite=[a-z]*", b"", value, flags=re.IGNORECASE)
    return name, bare + b"; SameSite=Lax"
