"""A Space takes the project's own files and nothing else, and its folder replaces nothing but a Space."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing import project
from ideogram_q8.publishing.project import PACKAGE, PACKAGE_DATA, package_files
from ideogram_q8.publishing.release import PROJECT
from ideogram_q8.publishing.space import space
from ideogram_q8.publishing.space.space import SETTINGS, assemble, files_of


def copied(folder: Path) -> Path:
    """The files of this checkout that a Space is made of, without git."""
    for path in package_files(PROJECT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, folder / path)
    for path in ("app.py", "LICENSE", "requirements.txt"):
        shutil.copy(PROJECT / path, folder / path)
    return folder


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *own, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one's own with the project in it, which `assemble` takes for its own."""
    folder = copied(tmp_path / "checkout")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    monkeypatch.setattr(space, "PROJECT", folder)
    monkeypatch.setattr(space, "_OWN_FILES", folder / "ideogram_q8" / "publishing" / "space" / "space_app")
    return folder


def test_with_and_without_git_it_is_the_same_files(tmp_path: Path) -> None:
    tracked = package_files(PROJECT)
    assert package_files(copied(tmp_path)) == sorted(tracked)
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.split("[tool.setuptools.package-data]")[1].split("\n[")[0]
    rows = re.findall(r'^"ideogram_q8\.([\w.]+)" = \["(.*)"\]$', table, re.MULTILINE)
    assert {f"{package.replace('.', '/')}/{pattern}" for package, pattern in rows} == set(PACKAGE_DATA)


def test_what_git_does_not_track_stays_here(checkout: Path, tmp_path: Path) -> None:
    notes = [f"{PACKAGE}/my_token_notes.txt", f"{PACKAGE}/ui/static/keys.js", f"{PACKAGE}/secret.py", ".env"]
    for name in notes:
        (checkout / name).write_text("hf_secret", encoding="utf-8")
    (checkout / PACKAGE / "link.txt").symlink_to("/etc/hostname")
    assemble(tmp_path / "space", "cpu-basic", [])
    held = {file.path for file in files_of(tmp_path / "space")}
    assert not held & set(notes) and f"{PACKAGE}/link.txt" not in held
    assert f"{PACKAGE}/__init__.py" in held


@pytest.mark.parametrize("target", ["/etc/hostname", "__init__.py"])
def test_a_link_among_the_tracked_files_is_refused(checkout: Path, tmp_path: Path, target: str) -> None:
    file = checkout / PACKAGE / "formats" / "png.py"
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(PublishError, match="link"):
        assemble(tmp_path / "space", "cpu-basic", [])
    assert not (tmp_path / "space").exists()


def test_a_folder_behind_a_link_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / PACKAGE / "ui").rename(tmp_path / "ui")
    (checkout / PACKAGE / "ui").symlink_to(tmp_path / "ui")
    with pytest.raises(PublishError, match="is a link to"):
        assemble(tmp_path / "space", "cpu-basic", [])


def test_gits_refusal_is_said(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere", encoding="utf-8")
    with pytest.raises(PublishError, match="git does not say which files belong to"):
        package_files(tmp_path)


def test_without_gits_program_modules_and_data_are_taken(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = package_files(checkout)
    (checkout / PACKAGE / "notes.txt").write_text("x", encoding="utf-8")
    monkeypatch.setattr(project, "_tracked", lambda _: None)
    assert package_files(checkout) == sorted(before)


def test_a_link_in_an_assembled_space_is_refused(tmp_path: Path) -> None:
    assemble(tmp_path / "space", "cpu-basic", [])
    (tmp_path / "space" / "notes").symlink_to("/etc")
    with pytest.raises(PublishError, match="is a link"):
        list(files_of(tmp_path / "space"))


NO_SPACES = {
    "an empty object": "{}",
    "another program's": '{"name": "Milky Way", "planets": 8}',
    "no JSON": "my notes",
    "no object": "[]",
    "deep": "[" * 100_000,
    "no text": "\x00",
}


@pytest.mark.parametrize("text", NO_SPACES.values(), ids=list(NO_SPACES))
def test_what_only_has_a_file_of_that_name_is_not_emptied(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS).write_text(text, encoding="utf-8")
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(PublishError, match="holds something else than a Space"):
        assemble(tmp_path, "cpu-basic", [])
    assert {path.name for path in tmp_path.iterdir()} == {SETTINGS, "README.md"}


def test_a_space_is_replaced_unless_it_is_a_clone_or_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "space"
    assemble(folder, "cpu-basic", [])
    assert set(json.loads((folder / SETTINGS).read_text(encoding="utf-8"))) == space._SETTINGS_KEYS
    (folder / "old.txt").write_text("of the last start", encoding="utf-8")
    assemble(folder, "cpu-basic", [])
    assert not (folder / "old.txt").exists()
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "clone").mkdir()
    shutil.copytree(folder, tmp_path / "clone", dirs_exist_ok=True)
    (tmp_path / "clone" / ".git").mkdir()
    (folder / SETTINGS).rename(tmp_path / "settings")
    os.symlink(tmp_path / "settings", folder / SETTINGS)
    for place in (tmp_path / "link", tmp_path / "file", tmp_path / "clone", folder):
        with pytest.raises(PublishError, match="holds something else than a Space"):
            assemble(place, "cpu-basic", [])
    assert (tmp_path / "clone" / ".git").is_dir() and (folder / "app.py").is_file()
