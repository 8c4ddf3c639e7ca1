"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from ideogram_q8.builds.folder import check_space, disk_errors, new_folder, write_text
from ideogram_q8.errors import ArtifactError, ResourceError, SourceError

NAMES = ("a", "b")


def build(out, text, overwrite=False, fail=None):
    with new_folder(out, NAMES, overwrite) as folder:
        (folder / "a").write_text(text, encoding="utf-8")
        if fail is not None:
            raise fail


def test_the_folder_appears_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_folder(out, NAMES) as folder:
        assert not out.exists()
        assert folder.parent == out.parent and folder.name == ".out.partial"
        (folder / "a").write_text("x", encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    with pytest.raises(error):
        build(tmp_path / "out", "x", fail=error)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_an_old_one_replaced_if_asked(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    build(out, "1")
    (out / "b").write_text("of the old one", encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds an artifact already; use --overwrite"):
        build(out, "2")
    assert (out / "a").read_text(encoding="utf-8") == "1"
    build(out, "3", overwrite=True)
    assert (out / "a").read_text(encoding="utf-8") == "3"
    assert not (out / "b").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_keeps_the_old_one(tmp_path):
    out = tmp_path / "out"
    build(out, "1")
    with pytest.raises(RuntimeError):
        build(out, "2", overwrite=True, fail=RuntimeError)
    assert (out / "a").read_text(encoding="utf-8") == "1"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folders_and_files_are_refused(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"holds 'thesis\.txt', which is not part of an artifact"):
        build(tmp_path, "1", overwrite)
    with pytest.raises(ArtifactError, match="is a file; name a new folder"):
        build(tmp_path / "thesis.txt", "1", overwrite)
    with pytest.raises(ResourceError, match="a part of the path is not a folder"):
        build(tmp_path / "thesis.txt" / "out", "1", overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_run_is_refused_while_the_first_is_alive(tmp_path):
    out = tmp_path / "out"
    with new_folder(out, NAMES) as running:
        with pytest.raises(ArtifactError, match="another run is writing .*out; wait until it ends, or name another folder"):
            build(out, "the second")
        (running / "a").write_text("the first", encoding="utf-8")
    assert (out / "a").read_text(encoding="utf-8") == "the first"
    build(out, "the third", overwrite=True)
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_filled_meanwhile_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ArtifactError, match="holds an artifact already"), new_folder(out, NAMES):
        out.mkdir()
        (out / "a").write_text("by hand", encoding="utf-8")
    assert (out / "a").read_text(encoding="utf-8") == "by hand"
    assert list(tmp_path.iterdir()) == [out]


def remains(out):
    """As a killed run leaves them."""
    partial = out.with_name(f".{out.name}.partial")
    (partial / "deep").mkdir(parents=True)
    (partial / "a").write_text("begun", encoding="utf-8")
    return partial


def test_remains_of_killed_runs_go(tmp_path):
    remains(tmp_path / "out")
    with new_folder(tmp_path / "out", NAMES) as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_remains_worth_keeping_are_given_to_the_next_run(tmp_path):
    partial = remains(tmp_path / "out")
    with new_folder(tmp_path / "out", NAMES, keep=lambda path: path == partial) as folder:
        assert folder == partial and (folder / "a").read_text(encoding="utf-8") == "begun"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError(), ResourceError("full")])
def test_a_stopped_run_keeps_what_is_worth_it(tmp_path, error):
    with pytest.raises(type(error)), new_folder(tmp_path / "out", NAMES, keep=lambda path: True):
        raise error
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]


@pytest.mark.parametrize("error", [SourceError("a NaN"), ArtifactError("too large")])
def test_a_refused_run_keeps_nothing(tmp_path, error):
    with pytest.raises(type(error)), new_folder(tmp_path / "out", NAMES, keep=lambda path: True):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_renames_that_a_kill_cut_in_two_are_undone(tmp_path, replaced):
    out, aside = tmp_path / "out", tmp_path / ".out.old"
    if replaced:
        build(out, "2")
    build(aside, "1")
    with pytest.raises(RuntimeError):
        build(out, "3", overwrite=True, fail=RuntimeError)
    assert (out / "a").read_text(encoding="utf-8") == ("2" if replaced else "1")
    assert list(tmp_path.iterdir()) == [out]


def test_space_is_checked_where_the_folder_will_be(tmp_path):
    check_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(ResourceError, match=r"needs 1000000000\.000 GB of disk, .* GB are free; free some"):
        check_space(tmp_path / "not" / "yet", 10**18)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_refusals_of_the_disk_are_one_line(tmp_path, number):
    with pytest.raises(ResourceError, match=r"cannot write into .*; make room or name another folder$"), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_folder_that_was_written_into_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError) as caught:
        write_text(tmp_path / "recipe.json", "{}")
    assert str(caught.value).startswith(f"cannot write into {tmp_path}: the disk is full")


@pytest.mark.parametrize("kept", [False, True])
def test_a_full_disk_says_what_is_kept_and_nothing_else(tmp_path, monkeypatch, kept):
    partial = tmp_path / ".out.partial"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError) as caught, new_folder(tmp_path / "out", NAMES, keep=lambda path: kept) as folder:
        write_text(folder / "a", "1")
    hint = f"; what is finished is kept in {partial}: repeat the command to go on, or delete it"
    assert (hint in str(caught.value)) == kept == partial.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="folders are locked elsewhere only")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_one_line(tmp_path, monkeypatch, number):
    asked = []

    def flock(descriptor, _):
        asked.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ResourceError, match=r"\.out\.partial cannot be locked: .*; name a folder on a disk of this machine$"):
        build(tmp_path / "out", "1")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(asked[0])


@pytest.mark.skipif(sys.platform == "win32", reason="folders are synced elsewhere only")
def test_folders_in_the_folder_are_synced_too(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    with new_folder(tmp_path / "out", NAMES) as folder:
        (folder / "a" / "deep").mkdir(parents=True)
    assert {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))} <= synced


def test_other_errors_pass(tmp_path):
    with pytest.raises(BrokenPipeError), disk_errors(tmp_path):
        raise BrokenPipeError(errno.EPIPE, "closed")
