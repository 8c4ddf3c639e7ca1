"""The app's options: refusals in one line, and what is opened when little is said."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ideogram_q8.builds.variants import prepare
from ideogram_q8.commands import app
from ideogram_q8.errors import IdeogramQ8Error
from tests.synthetic import write_source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--preview-decoder nothing", "--preview-decoder is nothing, which is not there; expected a file or folder"),
        ("--port 99999", "--port is 99999; expected 0 to 65535"),
        ("--port http", "argument --port: invalid int value: 'http'; see"),
        ("--device tpu", "argument --device: invalid choice: 'tpu'"),
        ("--dtype float16", "argument --dtype: invalid choice: 'float16'"),
        ("--source /no/such/folder", "/no/such/folder"),
        ("--artifact /no/such/folder", "/no/such/folder"),
        ("--variant q2_k", "--variant is q2_k; expected one of fp8, int8, q8_0, q4_k_s"),
    ],
)
def test_refusals(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["app.py", *arguments.split(), "--outputs", str(tmp_path)])
    assert app.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_port_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("sys.argv", ["app.py", "--port", str(port), "--outputs", str(tmp_path)])
        assert app.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there (")


def test_the_source_is_that_of_the_first_artifact(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    build = prepare("int8", str(source), tmp_path / "cache")
    studio = app.open_studio(app.parse(["--artifact", build, "--outputs", str(tmp_path / "outputs"), "--device", "cpu"]))
    assert studio.source == str(source) and (studio.device, studio.dtype) == ("cpu", "float32")
    assert [v.name for v in studio.variants()] == ["fp8", "int8", "q8_0", "q4_k_s", "int8-int8"]
    with pytest.raises(IdeogramQ8Error, match="leave out one of them"):
        app.open_studio(app.parse(["--artifact", build, "--source", "pocket", "--outputs", str(tmp_path / "outputs")]))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_accounts_are_read_whatever_editor_wrote_them(tmp_path: Path, mark: str, end: str) -> None:
    path = tmp_path / "accounts.txt"
    path.write_bytes(end.join([f"{mark}alice:secret", "# nobody", "", "bob:a:b é", ""]).encode("utf-8"))
    assert app.read_accounts(path) == [("alice", "secret"), ("bob", "a:b é")]


@pytest.mark.parametrize(
    ("given", "host"), [("::1", "::1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0"), ("localhost", "localhost")]
)
def test_addresses_have_brackets_in_links_only(tmp_path: Path, given: str, host: str) -> None:
    assert app.parse(["--host", given, "--outputs", str(tmp_path)]).host == host


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [
        ("--host 0.0.0.0", True),
        ("--host [::]", True),
        ("--share", True),
        ("--allowed-host app.example", True),
        ("--host 0.0.0.0 --share --auth {accounts}", False),
        ("", False),
    ],
)
def test_who_lets_everybody_in_reads_a_line(
    arguments: str, warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Before the server listens, and once."""
    from ideogram_q8.ui import page

    printed: list[str] = []
    monkeypatch.setattr(page, "build_page", lambda *_, **__: None)
    monkeypatch.setattr(page, "serve", lambda *_: printed.append(capsys.readouterr().err) or "http://127.0.0.1:1/")
    monkeypatch.setattr(app, "_later", lambda _: None)
    (tmp_path / "accounts").write_text("alice:secret\n", encoding="utf-8")
    given = arguments.format(accounts=tmp_path / "accounts").split()
    studio, _ = app.start(app.parse([*given, "--port", "0", "--device", "cpu", "--outputs", str(tmp_path / "outputs")]))
    studio.close()
    lines = [line for line in printed[0].splitlines() if line.startswith("warning: ")]
    expected = (
        "warning: anybody who can reach this address may use the app; --auth FILE lets in whom you name (docs/security.md)"
    )
    assert lines == [expected] * warns
