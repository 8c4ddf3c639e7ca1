"""What one visitor may take, and what is refused before it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.ui.doors import limits, private
from ideogram_q8.ui.doors.limits import Guesses, Limits, Quota, address_of
from tests.ui.site import Site, site

FORM = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("limits"), accounts=[("alice", "right"), ("bob", "also")]) as found:
        yield found


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "way", ["run/lint_caption", "call/generate", "queue/join", "cancel", "reset", "heartbeat/x", "nothing"]
)
@pytest.mark.parametrize("pieces", [False, True])
def test_no_endpoint_reads_a_large_body(app: Site, way: str, pieces: bool) -> None:
    """Whether its length is said first or not; also of endpoints to come."""
    piece = b"x" * 2**19
    answer = app.ask("POST", f"/gradio_api/{way}", {}, [piece] * 4 if pieces else piece * 4)
    assert answer.status in (404, 413) and (way == "nothing" or answer.status == 413) and answer.text.count("\n") == 1


def test_a_length_alone_is_enough_to_be_refused() -> None:
    """Nothing of the body is asked for."""

    async def never(*_: object) -> Any:
        raise AssertionError("read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for path, length in (("/gradio_api/run/x", 2**20 + 1), ("/login", 2**15), ("/gradio_api/upload", 2**27)):
        scope = {
            "type": "http",
            "path": path,
            "method": "POST",
            "headers": [(b"content-length", str(length).encode())],
            "client": None,
        }
        asyncio.run(Limits(never, Path("/"))(scope, never, send))
        assert sent[-2]["status"] == 413, path


def test_uploads_have_a_quota_and_leave_nothing_unfinished(tmp_path: Path, app: Site) -> None:
    with site(tmp_path) as other:
        other.page.app.middleware_stack.app.uploads.most = 3 * 2**20
        body = FORM + bytes(2**20) + b"\r\n--b--\r\n"
        found = [other.ask("POST", "/gradio_api/upload", MULTIPART, body).status for _ in range(4)]
        assert found == [200, 200, 429, 429]  # a form around each of three is more than 3 MiB
        pieces = [FORM, *[bytes(2**19)] * 8, b"\r\n--b--\r\n"]
        answer = other.ask("POST", "/gradio_api/upload", MULTIPART, pieces)
        assert answer.status == 400 and "than one visitor may have" in answer.text
        assert not [path for path in other.studio.temporary.iterdir() if path.is_file()]


def test_uploads_leave_room_on_the_disk(app: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(private, "MIN_FREE_BYTES", 2**60)
    with site(tmp_path) as other:
        answer = other.ask("POST", "/gradio_api/upload", MULTIPART, FORM + b"x\r\n--b--\r\n")
        assert answer.status == 507 and "almost full" in answer.text
    with pytest.raises(ResourceError, match="make room first"):
        private.check_disk(tmp_path)


def log_in(app: Site, name: str, password: str, address: str = "10.0.0.1") -> int:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": address}
    return app.ask("POST", "/login", headers, f"username={name}&password={password}".encode()).status


def test_the_cookie_of_a_log_in_stays_at_home(app: Site) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = app.ask("POST", "/login", headers, b"username=alice&password=right")
    assert answer.status == 200 and "samesite=lax" in answer.headers["set-cookie"].lower()
    assert "none" not in answer.headers["set-cookie"].lower()


def test_without_a_log_in_nothing_is_told(app: Site) -> None:
    assert app.ask("GET", "/healthz").text == '{"status":"ok"}'
    assert app.ask("GET", "/config").status == 401
    assert app.call({"data": []}, "run/variants").status == 401
    assert app.call({"data": []}, "call/history").status == 401


def test_guesses_of_one_address_slow_down_and_nobody_else_waits(app: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(limits, "sleep", sleep)
    found = [log_in(app, "alice", str(i)) for i in range(20)]
    assert found[:8] == [400] * 8 and found[-1] == 429
    assert waited[:5] == [0] * 5 and max(waited) > 5 and waited[5:8] == sorted(waited[5:8])
    waited.clear()
    assert log_in(app, "bob", "also", "10.0.0.2") == 200 and waited in ([0.0], [0])


def test_many_guesses_at_once_are_no_way_around() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    waits = [guesses.wait("a") for _ in range(9)]
    assert waits == [0, 0, 0, 0, 0, 1, 3, 7, 15]
    assert guesses.wait("b") == 0
    clock.now = 16.0
    assert guesses.wait("a") > 0
    guesses.succeed("a")
    assert guesses.wait("a") == 0
    clock.now += 2 * limits.HOUR
    assert guesses.wait("a") == 0


def test_a_quota_grows_back_within_an_hour_and_is_of_one_address() -> None:
    clock = Clock()
    quota = Quota(100, "bytes", clock)
    quota.spend("a", 100)
    with pytest.raises(RequestError, match="bytes than one visitor"):
        quota.check("a")
    quota.check("b", 100)
    clock.now = limits.HOUR / 2
    quota.check("a", 50)
    with pytest.raises(RequestError):
        quota.check("a", 51)
    for i in range(10_000):
        quota.spend(str(i), 1)
    assert len(quota._used) <= 4096
    Quota(None, "bytes").check("a", 10**18)


@pytest.mark.parametrize(
    ("client", "forwarded", "space", "address"),
    [
        ("10.0.0.1", "1.2.3.4", False, "10.0.0.1"),  # anybody can say so
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", True, "1.2.3.4"),
        ("::ffff:10.0.0.1", "", False, "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "", False, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:9:9:9:9", "", False, "2001:db8:1:2::/64"),
        ("testclient", "", False, "testclient"),
    ],
)
def test_whose_request_it_is(client: str, forwarded: str, space: bool, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.requests import HTTPConnection

    monkeypatch.setenv("SPACE_ID", "a/b") if space else monkeypatch.delenv("SPACE_ID", raising=False)
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert address_of(HTTPConnection({"type": "http", "headers": headers, "client": (client, 1)})) == address
