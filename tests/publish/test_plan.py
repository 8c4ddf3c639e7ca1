"""The plan is a pure function of the release and what the repository holds."""

from __future__ import annotations

import pytest

from ideogram_q8.errors import PublishError
from publish.plan import ReleaseFile, Remote, RemoteFile, check_repo, make_plan

WEIGHTS = ReleaseFile("weights.safetensors", 1000, "a" * 64, b"")
CARD = ReleaseFile("README.md", 10, "b" * 64, b"")


def test_without_remote_everything_is_an_upload() -> None:
    plan = make_plan("someone/model", [WEIGHTS, CARD], remote=None)
    assert [planned.action for planned in plan.files] == ["upload", "upload"]
    assert plan.upload_bytes == 1010
    assert plan.parent is None


def test_only_what_differs_is_sent() -> None:
    held = {
        "weights.safetensors": RemoteFile(1000, "a" * 64),
        "README.md": RemoteFile(10, None),
        ".gitattributes": RemoteFile(5, None),
    }
    plan = make_plan("someone/model", [WEIGHTS, CARD], Remote("c" * 40, held))
    assert [planned.action for planned in plan.files] == ["skip", "replace"]
    assert plan.upload_bytes == 10
    assert plan.parent == "c" * 40


@pytest.mark.parametrize(
    "repo",
    ["model", "a/b/c", "/model", "someone/", "some one/model", "someone/model.git", "a--b/c", "-a/b", "", "a/" + "b" * 99],
)
def test_malformed_repository_is_refused(repo: str) -> None:
    with pytest.raises(PublishError, match=r"--repo is .*use a name as in"):
        check_repo(repo)


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(PublishError, match=r"two files of the release are called 'README\.md'"):
        make_plan("someone/model", [CARD, CARD], remote=None)
