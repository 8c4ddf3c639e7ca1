"""What must not be published is refused before a byte is sent, with what to do; and no secret is ever shown."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.utils import httpx

from ideogram_q8.publishing.push import _parser, error_line
from tests.hub.faults import Fault
from tests.hub.scene import REPO, Result, command
from tests.hub.server import TOKEN, Hub
from tests.hub.state import Account
from tests.publishing.example import NAMES, manifest, refill, sha256

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # the client's own call of its HTTP library
ROOT = Path(__file__).resolve().parents[2]


def push(build: Path, *more: object) -> Result:
    return command("push", build, "--repo", REPO, *more)


ACCOUNTS = {
    "reads only": (Account("someone", role="read"), "the token may only read"),
    "somebody else": (Account("other"), "the token belongs to other, who is not someone"),
    "scoped elsewhere": (Account("someone", scopes={"someone/x": ("repo.write",)}), "may write to someone/x, not to"),
    "scoped to read": (Account("someone", scopes={"someone": ("repo.content.read",)}), "may write to nothing, not to"),
    "unknown": (None, "log in with `hf auth login`"),
}


@pytest.mark.parametrize(("account", "message"), ACCOUNTS.values(), ids=list(ACCOUNTS))
def test_a_token_that_may_not_write_is_refused(hub: Hub, build: Path, account: Account | None, message: str) -> None:
    hub.state.accounts = {TOKEN: account} if account else {}
    result = push(build)
    assert result.code == 2 and message in result.err.splitlines()[-1]
    assert {request.method for request in hub.script.seen} == {"GET"}


@pytest.mark.parametrize(
    "account",
    [
        Account("other", organizations=("someone",)),
        Account("someone", scopes={"someone": ("repo.write",)}),
        Account("someone", scopes={REPO: ("repo.write", "repo.content.read")}),
    ],
    ids=["organization", "scoped to the owner", "scoped to the repository"],
)
def test_a_token_that_may_write_is_enough(hub: Hub, build: Path, account: Account) -> None:
    hub.state.accounts = {TOKEN: account}
    assert push(build).code == 0


def test_no_token_is_said(hub: Hub, build: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    result = push(build)
    assert result.code == 2 and "there is no token; log in with `hf auth login`" in result.err


def _unmeasured(build: Path) -> None:
    (build / "report.json").unlink()


def _endorsed(build: Path) -> None:
    value = json.loads((build / "report.json").read_text(encoding="utf-8"))
    value["suite"]["name"] = "captions approved by Ideogram"
    (build / "report.json").write_text(json.dumps(value), encoding="utf-8")


def _not_psnr(build: Path) -> None:
    value = json.loads((build / "report.json").read_text(encoding="utf-8"))
    value["variants"][1]["figures"]["psnr"] = {"not_measured": "no time"}
    (build / "report.json").write_text(json.dumps(value), encoding="utf-8")


def _placeholder(build: Path) -> None:
    value = json.loads((build / "report.json").read_text(encoding="utf-8"))
    value["settings"]["intervals"] = "TODO"
    (build / "report.json").write_text(json.dumps(value), encoding="utf-8")


def _private(build: Path) -> None:
    value = json.loads((build / "report.json").read_text(encoding="utf-8"))
    value["hardware"]["processor"] = f"a processor, see {build.resolve()}"
    (build / "report.json").write_text(json.dumps(value), encoding="utf-8")


def _header(build: Path) -> None:
    (build / "report.json").unlink()
    path = build / NAMES["conditional"]
    content = path.read_bytes().replace(b'"I8"', b'"U8"')
    path.write_bytes(content)
    text = (build / "manifest.json").read_text(encoding="utf-8")
    (build / "manifest.json").write_text(text.replace(manifest().files[0].sha256, sha256(content)), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_unmeasured, "nothing is measured: there is no report.json; make one"),
        (_not_psnr, "psnr of int8 is not measured (no time); measure it"),
        (_endorsed, "implies that Ideogram, Inc. endorses these files"),
        (_placeholder, "the card says 'TODO'"),
        (_private, "a place on this machine that must not become public"),
        (_header, "tensor 'x.weight' is ((16, 100), 'U8') in its header"),
        (lambda b: (b / NAMES["conditional"]).write_bytes(b""), "has 0 bytes, its manifest says"),
    ],
)
def test_refusals_come_before_the_hub_is_asked(hub: Hub, build: Path, spoil, message: str) -> None:
    spoil(build)
    result = push(build)
    assert result.code == 2 and message in result.err.splitlines()[-1]
    assert hub.script.seen == []


def test_a_tag_does_not_move(hub: Hub, build: Path) -> None:
    assert push(build, "--tag", "v1").code == 0
    refill(build, b"\2")
    received = hub.received
    result = push(build, "--tag", "v1")
    assert result.code == 2 and "does not move; choose another --tag" in result.err
    assert hub.received == received
    assert push(build, "--tag", "v2").code == 0


def test_an_address_that_is_none_is_refused(hub: Hub, build: Path) -> None:
    for address in ("https://example.org/a; rm -rf .", "file:///etc/passwd", "example.org/tool"):
        result = push(build, "--code", address)
        assert result.code == 2 and "expected an address that `git clone` takes" in result.err
    assert "use a name as in" in push(build, "--new-version", "nowhere").err
    assert hub.script.seen == []


def test_private_is_not_promised_of_a_public_repository(hub: Hub, build: Path) -> None:
    assert push(build).code == 0
    assert "is public; leave out --private" in push(build, "--private").err


def test_the_token_is_never_seen(hub: Hub, build: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*", "HF_DEBUG": "1"}  # the client logs its requests
    arguments = [sys.executable, str(ROOT / "publish" / "push.py"), "push", str(build), "--repo", REPO, "--tag", "v1"]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0 and "curl" in run.stderr
    hub.script.always = (1, _echo(hub))
    failed = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 2 and "hf_..." in failed.stderr.splitlines()[-1]
    receipts = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json")]
    assert len(receipts) == 1
    for text in (run.stdout, run.stderr, failed.stdout, failed.stderr, *receipts):
        assert hub.token not in text
    assert "X-Signature" not in run.stdout + failed.stdout + receipts[0] + failed.stderr.splitlines()[-1]


def _echo(hub: Hub):
    """A Hub that says the token back."""
    return Fault("status", 403, headers={"X-Error-Message": f"token {hub.token} of Bearer {hub.token} is bad"})


def test_errors_are_one_line_without_secrets() -> None:
    error = httpx.ReadTimeout(f"of https://storage/x?X-Amz-Signature=abc with {TOKEN}\nBearer {TOKEN}")
    assert error_line(error) == "error: of https://storage/x with hf_... hf_..."


NAMES_REFUSED = {
    "--tag": (
        *("v 1", "v1..2", "v1~", "v1^2", "a:b", "what?", "a*", "[x]", "a\\b", ".v1", "v1.", "v1.lock", "a//b", "/v1", "v1/", "@", "a@{1}"),
        *("-v1", "", "x" * 300, "v1\n"),
    ),
    "--revision": ("a b", "a..b", "-main"),
    "--parent": ("main", "abc", "0" * 39, "g" * 40),
    "--collection": ("x" * 100, "", " ", "two\nlines"),
    "--sibling": ("nowhere", "a/b/c", "someone/a b", "someone/official-build"),
    "--new-version": ("nowhere", "a/..b"),
}  # fmt: skip


@pytest.mark.parametrize(("option", "name"), [(option, name) for option, names in NAMES_REFUSED.items() for name in names])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_names_that_the_hub_refuses_are_refused_first(
    hub: Hub, build: Path, option: str, name: str, more: tuple[str, ...]
) -> None:
    """Before anything is read, whether it is sent or planned only; and the line names the option."""
    result = push(build, *more, f"{option}={name}")
    (line,) = result.err.splitlines()
    assert result.code == 2 and line.startswith(f"error: {option} is ")
    assert hub.script.seen == []


@pytest.mark.parametrize("name", [*NAMES_REFUSED["--tag"], "a b"])
def test_a_rollback_goes_to_no_name_that_git_has_not(hub: Hub, build: Path, name: str) -> None:
    result = command("rollback", build, "--repo", REPO, f"--to={name}")
    (line,) = result.err.splitlines()
    assert result.code == 2 and line.startswith("error: --to is ") and hub.script.seen == []


@pytest.mark.parametrize(
    "name", ["nowhere", "a/b/c", "someone/a b@main", "someone/official@main", "someone/int8@a b", "someone/int8@-x"]
)
def test_a_space_offers_nothing_of_a_name_that_the_hub_refuses(hub: Hub, tmp_path: Path, name: str) -> None:
    result = command("space", "--repo", REPO, "--hardware", "cpu-basic", "--out", tmp_path / "space", f"--variant={name}")
    (line,) = result.err.splitlines()
    assert result.code == 2 and line.startswith("error: --variant is ") and hub.script.seen == []
    assert not (tmp_path / "space").exists()


def test_every_option_that_names_something_on_the_hub_is_looked_at() -> None:
    """An option to come is checked and named above, or named here: `--python` names a program of this computer."""
    commands = next(action for action in _parser("push")._actions if isinstance(action, argparse._SubParsersAction))
    found = {
        option
        for command in commands.choices.values()
        for action in command._actions
        for option in action.option_strings
        if action.type is None and action.choices is None and action.nargs != 0
    }
    assert found == {*NAMES_REFUSED, "--repo", "--to", "--variant", "--code", "--python"}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--tag", "v1.0.0"),
        ("--tag", "release/2026-12"),
        ("--tag", "ö_1"),
        ("--collection", "Ideogram 4, quantized (8 bits) — 日本"),
    ],
)
def test_names_that_the_hub_takes_are_taken(hub: Hub, build: Path, option: str, name: str) -> None:
    assert push(build, "--dry-run", f"{option}={name}").code == 0
