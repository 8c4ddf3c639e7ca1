"""No request from elsewhere gets in: found by asking every route that the running app has, with every method that it takes."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.doors import middleware as doors
from ideogram_q8.ui.doors.accounts import FOR_ANYBODY
from ideogram_q8.ui.doors.middleware import OPEN_ROUTES, names
from ideogram_q8.ui.page import Serving
from tests.ui.site import WAIT, Site, site

CLOSED = """/openapi.json proxy= vibe monitoring profiling process_recording component_server runs run-history dev/reload deep_link stream/
    custom_component token file/ queue/status""".split()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("doors")) as found:
        yield found


def routes(app: Site) -> list[tuple[str, str]]:
    """Every path that the server knows, with something in each of its gaps, and each of its methods."""
    return [(re.sub(r"\{[^}]*\}", "x", path), method) for path, methods in app.routes().items() for method in sorted(methods)]


def test_there_are_the_routes_that_are_meant(app: Site) -> None:
    found = {path for path, _ in routes(app)}
    assert {"/", "/config", "/login", "/healthz", "/gradio_api/upload", "/gradio_api/queue/join"} <= found and len(found) > 60


@pytest.mark.parametrize(
    "host", ["evil.example", "foo.localhost:{port}", "localhost.:{port}", "127.0.0.1.nip.io", "192.168.1.5", "", "a b"]
)
def test_no_route_answers_to_a_name_that_is_not_served(app: Site, host: str) -> None:
    for path, method in routes(app):
        answer = app.ask(method, path, {"Host": host.format(port=app.port)})
        assert answer.status == 400 and (method == "HEAD" or answer.text.count("\n") == 1), (method, path)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://127.0.0.1:1", "http://localhost:{port}", "null", "http://127.0.0.1.evil:{port}", "x"],
)
def test_no_route_answers_a_page_of_another_origin(app: Site, origin: str) -> None:
    """Preflights, which would say that it may ask, among them; localhost is another origin than 127.0.0.1."""
    for path, method in [*routes(app), ("/gradio_api/queue/join", "OPTIONS"), ("/gradio_api/upload", "OPTIONS")]:
        answer = app.ask(method, path, {"Origin": origin.format(port=app.port)})
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers, (method, path)
        assert method == "HEAD" or answer.text.count("\n") == 1


def test_no_route_answers_what_a_browser_says_is_of_another_site(app: Site) -> None:
    """A picture, a script or a form of another page has no Origin where it is a GET."""
    for path, method in routes(app):
        for mode, target in (("no-cors", "image"), ("navigate", "iframe"), ("cors", "empty")):
            headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": target}
            assert app.ask(method, path, headers).status == 403, (method, path, target)


def test_a_link_leads_to_the_page_and_logs_nobody_out(app: Site) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert app.ask("GET", "/", link).status == 200
    assert app.ask("GET", "/logout", link).status == 403
    assert app.ask("POST", "/login", link).status == 403


def test_uploads_of_other_pages_are_refused_before_they_are_read(app: Site) -> None:
    """A form with a file is sent without a preflight."""
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Origin": "https://evil.example"}
    assert (
        app.ask("POST", "/gradio_api/upload", headers, b'--b\r\nContent-Disposition: form-data; name="files"; ').status == 403
    )


def test_every_route_is_one_that_the_page_needs_or_closed(app: Site) -> None:
    for path, method in routes(app):
        answered = app.ask(method, path).status
        if OPEN_ROUTES.fullmatch(path):
            assert not any(part in path for part in CLOSED[1:]), path
        else:
            assert answered == 404 and any(part in path for part in CLOSED), (method, path)


def test_with_accounts_every_route_needs_a_log_in_or_is_named(tmp_path: Path) -> None:
    """Whatever a later Gradio adds, too."""
    with site(tmp_path, accounts=[("alice", "secret")]) as app:
        for path, method in routes(app):
            if OPEN_ROUTES.fullmatch(path) and path not in ("/login", "/login/"):
                answered = app.ask(method, path).status
                assert (answered == 401) is not bool(FOR_ANYBODY.fullmatch(path)), (method, path, answered)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        cookie = app.ask("POST", "/login", form, b"username=alice&password=secret").headers["set-cookie"].partition(";")[0]
        for path in ("cancel", "reset"):
            assert app.call({"event_id": "x", "session_hash": "x", "fn_index": 0}, path, Cookie=cookie).status == 200
        name = cookie.partition("=")[0]
        assert app.call({"event_id": "x"}, "reset", Cookie=f"{name}=guessed").status == 401
        assert app.ask("GET", "/gradio_api/heartbeat/x", {"Cookie": cookie}).status == 200


def test_an_open_page_keeps_its_session(app: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=WAIT)
    connection.request("GET", "/gradio_api/heartbeat/mine")
    assert connection.getresponse().read(4) == b"data" and app.page.app.sessions._pages["mine"] == 1
    connection.close()


@pytest.mark.parametrize("path", ["file=http://127.0.0.1:1/x", "file=https://example.org/", "file=HTTP:x", "%66ile=http://x/"])
def test_the_server_fetches_nothing_for_visitors(app: Site, path: str) -> None:
    assert app.ask("GET", f"/gradio_api/{path}").status in (403, 404)


def test_own_pages_are_answered_and_nobody_may_frame_them(app: Site) -> None:
    for host in (f"127.0.0.1:{app.port}", f"localhost:{app.port}", f"[::1]:{app.port}", f"LOCALHOST:{app.port}"):
        answer = app.ask("GET", "/config", {"Host": host, "Origin": f"http://{host.lower()}"})
        assert answer.status == 200, host
        assert (
            answer.headers["content-security-policy"] == "frame-ancestors 'none'"
            and answer.headers["x-frame-options"] == "DENY"
        )
    assert app.ask("GET", "/healthz").text == '{"status":"ok"}'


def test_twice_the_same_header_is_no_way_around() -> None:
    served = names("127.0.0.1")
    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}
    assert (doors.Doors(None, lambda: served)._refusal(scope) or (0, ""))[0] == 400  # type: ignore[arg-type]
    scope["headers"] = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")]
    assert (doors.Doors(None, lambda: served)._refusal(scope) or (0, ""))[0] == 403  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "allowed", "served", "refused"),
    [
        ("127.0.0.1", [], ["127.0.0.1", "localhost:80", "[::1]:7860", "[0:0:0:0:0:0:0:1]"], ["0.0.0.0", "10.0.0.1", "[::2]", "[::1"]),
        ("::1", [], ["[::1]:7860", "localhost"], ["[::2]", "evil.example"]),
        ("192.168.1.5", [], ["192.168.1.5:7860", "127.0.0.1"], ["192.168.1.6", "192.168.1.5.nip.io", "192.168.1.5."]),
        ("0.0.0.0", [], ["192.168.1.5:7860", "[fe80::1]:7860", "127.0.0.1"], ["evil.example", "10.0.0.1.nip.io", "foo.localhost"]),
        ("127.0.0.1", ["App.example", "b.example:8443"], ["app.example", "APP.EXAMPLE:443", "b.example"], ["c.app.example", "example"]),
    ],
)  # fmt: skip
def test_the_names_of_a_server(host: str, allowed: list[str], served: list[str], refused: list[str]) -> None:
    found = names(host, allowed)
    assert all(found.serve(name) for name in served)
    assert not any(found.serve(name) for name in refused)


@pytest.mark.parametrize(
    ("origin", "authority", "own"),
    [
        ("http://localhost:7860", "localhost:7860", True),
        ("http://localhost:7861", "localhost:7860", False),
        ("http://[::1]:7860", "[::1]:7860", True),
        ("https://app.example", "app.example", True),
        ("https://app.example", "app.example:443", True),
        ("https://app.example", "127.0.0.1:7860", True),  # a proxy that sends its own Host
        ("https://app.example:8443", "127.0.0.1:7860", False),  # another server there
        ("https://b.example:8443", "127.0.0.1:7860", True),
        ("https://evil.app.example", "app.example", False),
        ("https://app.example@evil.example", "app.example", False),
        ("null", "app.example", False),
        ("file://", "app.example", False),
    ],
)
def test_what_is_an_own_origin(origin: str, authority: str, own: bool) -> None:
    assert names("127.0.0.1", ["app.example", "b.example:8443"]).own(origin, authority) is own


def test_a_space_is_framed_by_the_hub_and_answers_to_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/space")
    monkeypatch.setenv("SPACE_HOST", "someone-space.hf.space,custom.example")
    found = names("0.0.0.0")
    assert found.on_space and found.serve("someone-space.hf.space") and found.serve("custom.example")
    assert found.own("https://someone-space.hf.space", "10.1.2.3:7860") and not found.own(
        "https://huggingface.co", "someone-space.hf.space"
    )
    assert not found.serve("evil.example")


@pytest.mark.parametrize("name", ["", "https://app.example", "a b", "app.example/x", "x:y"])
def test_a_name_that_is_none_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(RequestError, match="--allowed-host"):
        names("127.0.0.1", [name])


@pytest.mark.parametrize(
    ("serving", "warns"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.1.5"}, True),
        ({"share": True}, True),
        ({"allowed_hosts": ["app.example"]}, True),
        ({"host": "0.0.0.0", "share": True, "accounts": [("a", "b")]}, False),
    ],
)
def test_who_lets_everybody_in_is_told_in_a_line(serving: dict[str, object], warns: bool) -> None:
    warning = Serving(**({"host": "127.0.0.1", "port": 1} | serving)).warning  # type: ignore[arg-type]
    assert bool(warning) is warns and "\n" not in (warning or "")
