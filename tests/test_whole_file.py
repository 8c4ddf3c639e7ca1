"""One way to write a file whole: whatever stops the writing, the old file stays, and an exception leaves nothing beside it."""

from __future__ import annotations

import ast
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ideogram_q8.formats import whole_file
from ideogram_q8.machine import platforms

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = b"what was there\n", b"what comes\n"


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=[False, True], ids=["new", "old file there"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, bytes]:
    """The folder before anything is written, as `state` gives it."""
    if request.param:
        (tmp_path / "file").write_bytes(OLD)
    return state(tmp_path)


def test_what_is_written_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path, before: dict[str, bytes]) -> None:
    whole_file.write_bytes(tmp_path / "file", NEW)
    assert state(tmp_path) == {"file": NEW}


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    whole_file.write_text(tmp_path / "file", "é\n\r\n")
    assert state(tmp_path) == {"file": b"\xc3\xa9\n\r\n"}


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_the_middle_leaves_the_folder_as_it_was(
    tmp_path: Path, before: dict[str, bytes], error: type[BaseException]
) -> None:
    with pytest.raises(error), whole_file.replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(NEW[:4])
        raise error
    assert state(tmp_path) == before


def test_a_block_that_wrote_nothing_leaves_the_folder_as_it_was(tmp_path: Path, before: dict[str, bytes]) -> None:
    with pytest.raises(FileNotFoundError), whole_file.replacing(tmp_path / "file"):
        pass
    assert state(tmp_path) == before


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr(os, "fsync", refuse),
        lambda patch: patch.setattr(platforms.here, "replace", refuse),
    ],
    ids=["syncing", "renaming"],
)
def test_a_disk_that_refuses_leaves_the_folder_as_it_was(
    tmp_path: Path, before: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_it(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        whole_file.write_bytes(tmp_path / "file", NEW)
    assert state(tmp_path) == before


def test_the_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def sync(descriptor: int) -> None:
        assert not (tmp_path / "file").exists()
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    whole_file.write_bytes(tmp_path / "file", NEW)
    assert synced == [(tmp_path / "file").stat().st_ino]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_a_mode_holds_from_the_first_byte(tmp_path: Path) -> None:
    with whole_file.replacing(tmp_path / "file", 0o600) as temporary:
        temporary.write_bytes(NEW)
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_killed_process_leaves_the_old_file_and_the_next_one_writes(tmp_path: Path, before: dict[str, bytes]) -> None:
    code = (
        "import os, pathlib, sys; from ideogram_q8.formats import whole_file\n"
        "with whole_file.replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'wha')\n"
        "    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "file"], cwd=ROOT, check=False).returncode == 9
    left = state(tmp_path)
    assert before.items() <= left.items()
    hidden = set(left) - set(before)
    assert all(name.startswith(".") and name.endswith(whole_file.SUFFIX) for name in hidden)
    whole_file.write_bytes(tmp_path / "file", NEW)
    assert state(tmp_path)["file"] == NEW


RENAMING = {
    "formats/whole_file.py": "is the one way",
    "machine/platforms.py": "is how a system renames",
    "builds/folder.py": "renames whole folders, which a run resumes",
    "hub/transfer.py": "keeps what arrived under the Hub's own name, so that a download resumes",
    "ui/engine/bin.py": "moves finished pictures into the bin and back",
}
"""Modules that rename files or folders themselves, and why."""


def renames(call: ast.Call) -> bool:
    """Whether a call renames a file: `os.replace`, `here.replace`, `Path.replace`, `Path.rename`, `shutil.move`.

    `str.replace` has two arguments and no owner of that name; `dataclasses.replace` and `datetime.replace` have keywords.
    """
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    owner = ast.unparse(function.value)
    if function.attr in ("rename", "renames") or (owner, function.attr) == ("shutil", "move"):
        return True
    of_system = owner == "os" or owner.split(".")[-1] == "here"
    return function.attr == "replace" and (of_system or (len(call.args) == 1 and not call.keywords))


def test_no_other_module_renames_files() -> None:
    package = ROOT / "ideogram_q8"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(isinstance(node, ast.Call) and renames(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == set(RENAMING)
