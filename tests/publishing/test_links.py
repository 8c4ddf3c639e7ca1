"""A folder from somebody else may hold links and special files: none is followed out of it, or opened, into a push."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.cards.family import cards
from ideogram_q8.publishing.release import PROJECT, complete, read_release
from tests.publishing.example import AGREEMENT, FOLDER, REPORT, manifest, write_build

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----"


def files(folder: Path) -> dict[str, bytes]:
    release = read_release(folder)
    return {file.path: file.read() for file in complete(release, cards(release, "someone/model"))}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "id_rsa"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def ideogram(tmp_path: Path) -> Path:
    folder = write_build(tmp_path / "ideogram", manifest(FOLDER))
    (folder / "LICENSE.md").write_text(AGREEMENT, encoding="utf-8")
    return folder


def test_the_licence_of_the_pocket_is_the_projects_own(build: Path, secret: Path) -> None:
    (build / "LICENSE").symlink_to(secret)
    assert files(build)["LICENSE"] == (PROJECT / "LICENSE").read_bytes()
    (build / "LICENSE").unlink()
    (build / "LICENSE").write_text("All yours.", encoding="utf-8")
    release = read_release(build)
    assert files(build)["LICENSE"] == (PROJECT / "LICENSE").read_bytes()
    assert any("this project's own" in note for note in release.notes)


@pytest.mark.parametrize("kind", ["pocket", "ideogram"])
def test_no_file_of_a_release_is_behind_a_link_that_leaves_the_folder(
    build: Path, ideogram: Path, tmp_path: Path, kind: str
) -> None:
    """Every file that is published is tried: what is the same bytes elsewhere is refused all the same."""
    folder = {"pocket": build, "ideogram": ideogram}[kind]
    names = [name for name in files(folder) if os.path.lexists(folder / name)]
    assert {"manifest.json"} < set(names)
    for name in names:
        elsewhere = tmp_path / "elsewhere"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)
        with pytest.raises(PublishError, match="is a link to .*, which is not in .*; put a copy of the file in its place"):
            read_release(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(PublishError, match="is no regular file"):
            read_release(folder)
        (folder / name).unlink()
        elsewhere.rename(folder / name)
    read_release(folder)


def test_a_link_within_the_folder_is_a_file_of_it(build: Path) -> None:
    name = manifest().files[0].path
    (build / "weights").mkdir()
    (build / name).rename(build / "weights" / name)
    (build / name).symlink_to(Path("weights") / name)
    assert files(build)[name] == (build / "weights" / name).read_bytes()


def test_a_folder_of_builds_takes_none_from_outside(tmp_path: Path) -> None:
    root = tmp_path / "all"
    write_build(root / "int8", manifest(), REPORT)
    outside = write_build(tmp_path / "outside", dataclasses.replace(manifest(), variant="int8-x"))
    (root / "q8_0").symlink_to(outside)
    with pytest.raises(PublishError, match="is a link to"):
        read_release(root)


@pytest.mark.parametrize("name", ["q8; curl evil", "$(x)", "a b", "-x", "é", "a\nb"])
def test_folders_of_builds_have_plain_names(tmp_path: Path, name: str) -> None:
    write_build(tmp_path / "all" / name, manifest(), REPORT)
    with pytest.raises(PublishError, match="becomes a folder of the repository; rename it") as caught:
        read_release(tmp_path / "all")
    assert str(caught.value).isprintable()


def test_names_of_what_is_left_out_are_printable(build: Path) -> None:
    (build / "a\x1b[31m\nb").write_bytes(b"")
    (build / "key").symlink_to("/etc/hostname")
    assert all(note.isprintable() for note in read_release(build).notes)
    assert "key" not in files(build)
