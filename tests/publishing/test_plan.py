"""The plan is a pure function of the release and what the repository holds."""

from __future__ import annotations

import pytest

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.pushing.plan import (
    CommittedFile,
    ReleaseFile,
    Remote,
    check_reference,
    check_repo,
    conflicts,
    make_plan,
)

WEIGHTS = ReleaseFile("weights.safetensors", 1000, "a" * 64, b"")
CARD = ReleaseFile("README.md", 10, "b" * 64, b"")


def test_without_remote_everything_is_an_upload() -> None:
    plan = make_plan("someone/model", [WEIGHTS, CARD], remote=None)
    assert [planned.action for planned in plan.files] == ["upload", "upload"]
    assert plan.upload_bytes == 1010
    assert plan.parent is None


def test_only_what_differs_is_sent() -> None:
    held = {
        "weights.safetensors": CommittedFile(1000, "a" * 64, "0" * 40),
        "README.md": CommittedFile(10, None, "0" * 40),
        ".gitattributes": CommittedFile(5, None, "0" * 40),
    }
    plan = make_plan("someone/model", [WEIGHTS, CARD], Remote("c" * 40, held))
    assert [planned.action for planned in plan.files] == ["skip", "replace"]
    assert plan.upload_bytes == 10
    assert plan.parent == "c" * 40
    assert not plan.is_done


def test_small_files_are_known_by_what_git_calls_them() -> None:
    card = ReleaseFile("README.md", 6, "b" * 64, b"hello\n")
    held = CommittedFile(6, None, "ce013625030ba8dba906f756967f9e9ca394464a")  # `echo hello | git hash-object --stdin`
    plan = make_plan("someone/model", [card], Remote("c" * 40, {"README.md": held}))
    assert plan.is_done and plan.upload_bytes == 0


def test_what_is_not_of_the_release_stays_unless_pruned() -> None:
    held = {path: CommittedFile(5, None, "0" * 40) for path in (".gitattributes", "old.gguf", "README.md")}
    remote = Remote("c" * 40, held)
    kept = make_plan("someone/model", [CARD], remote)
    assert (kept.others, kept.removed) == (("old.gguf",), ())
    pruned = make_plan("someone/model", [CARD], remote, prune=True)
    assert (pruned.others, pruned.removed) == ((), ("old.gguf",))


def test_conflicts_are_files_that_both_have_changed() -> None:
    plan = make_plan("someone/model", [WEIGHTS, CARD], Remote("c" * 40, {}))
    theirs = {"weights.safetensors": CommittedFile(7, "f" * 64, "0" * 40), "notes.txt": CommittedFile(7, None, "0" * 40)}
    assert conflicts(plan, Remote("c" * 40, {}), Remote("d" * 40, theirs)) == ["weights.safetensors"]
    same = {"weights.safetensors": CommittedFile(1000, "a" * 64, "0" * 40)}
    assert conflicts(plan, Remote("c" * 40, {}), Remote("d" * 40, same)) == []


@pytest.mark.parametrize(
    "repo",
    [
        "model",
        "a/b/c",
        "/model",
        "someone/",
        "some one/model",
        "someone/model.git",
        "a--b/c",
        "-a/b",
        "",
        "a/" + "b" * 99,
        "me/Official-int8",
    ],
)
def test_malformed_repository_is_refused(repo: str) -> None:
    with pytest.raises(PublishError, match=r"--repo is .*use a name as in"):
        check_repo(repo)


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(PublishError, match=r"two files of the release are called 'README\.md'"):
        make_plan("someone/model", [CARD, CARD], remote=None)


@pytest.mark.parametrize("name", ["main", "v1.0.0", "next/try", "refs/pr/1", "a.b-c_d", "ö", "0" * 40])
def test_references_that_git_has(name: str) -> None:
    check_reference(name, "--tag")
