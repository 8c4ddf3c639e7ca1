"""Whatever happens on the way, the repository holds the old release or the whole new one, and the same command again ends well."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ideogram_q8.publishing.pushing import hub as client
from tests.hub import fault_table
from tests.hub.faults import Fault
from tests.hub.scene import REPO, WEIGHTS, Scene, command, connected
from tests.hub.server import Hub
from tests.publishing.example import NAMES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=")]  # the client's own call of its HTTP library
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with connected(folder) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "TIMEOUT", fault_table.TIMEOUT)
        hub.hang = 2 * fault_table.HANG_TIMEOUT
        yield Scene(hub, folder)


def test_every_fault_at_every_kind_of_request(scene: Scene) -> None:
    rows = list(fault_table.rows(scene))
    assert len({row.place for row in rows}) == len(fault_table.PLACES)
    for row in rows:
        assert row.holds in ("old", "new") and row.whole, row
        assert row.sees or row.holds == "new", row
        assert re.fullmatch(r"(error: .*; .*)?", row.sees), row
        assert row.again == "" and row.finally_holds == "new", row
    committed = fault_table.TABLE.read_text(encoding="utf-8")
    assert fault_table.render(rows) == committed, "run `python -m tests.hub.fault_table` again"


def test_a_push_cut_off_at_any_request_goes_on_without_sending_anything_twice(scene: Scene) -> None:
    scene.restore()
    assert scene.push() == ""
    requests = list(scene.hub.script.seen)
    large = sum(file.size for file in scene.new if file.path in WEIGHTS)
    for request in requests:
        scene.restore()
        scene.hub.script.always = (request.number, Fault("close"))
        assert scene.push().startswith("error: "), request
        committed = request.number > next(r.number for r in requests if "/commit/" in r.path)
        assert scene.state() == ("new" if committed else "old") and scene.is_whole(), request
        scene.hub.script.always = None
        assert scene.push() == ""
        assert scene.state() == "new" and scene.is_whole()
        assert scene.hub.received == large, request
        assert scene.repository.tags == {"v2": scene.repository.branches["main"]}


@pytest.mark.parametrize("place", ["/storage/", "/commit/main"])
def test_a_killed_process_is_resumed(hub: Hub, build: Path, place: str, tmp_path: Path) -> None:
    """SIGKILL before the request is carried out: of the second large file, of the commit."""
    program = [sys.executable, str(ROOT / "publish" / "push.py"), "push", str(build), "--repo", REPO, "--tag", "v1"]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*"}
    large = sum((build / name).stat().st_size for name in NAMES.values())
    hub.state.create("model", REPO)

    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kill = Fault("kill", call=lambda: os.kill(process.pid, signal.SIGKILL))
    hub.script.when.append(("PUT" if place == "/storage/" else "POST", place, kill))
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert process.stderr is not None
    process.stderr.close()
    repository = hub.state.repositories["model", REPO]
    assert set(repository.files) == {".gitattributes"}
    stored = hub.received

    again = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert {"README.md", *NAMES.values()} < set(repository.files)
    samples = (build / "samples" / "star.png").stat().st_size
    assert stored <= hub.received == large + samples
    assert hub.token not in again.stdout + again.stderr


CREATION = (Fault("status", 402), Fault("status", 500), Fault("close"), Fault("lose answer"))


@pytest.mark.parametrize("fault", CREATION, ids=str)
def test_a_fault_while_the_repository_is_made(hub: Hub, build: Path, fault: Fault) -> None:
    hub.script.when.append(("POST", "/repos/create", fault))
    result = command("push", build, "--repo", REPO, "--private")
    if fault.status == 402:
        assert result.code == 2 and "the account's plan does not include this" in result.err
        assert hub.state.repositories == {}
        result = command("push", build, "--repo", REPO, "--private")
    assert result.code == 0, result.err  # the others pass: it was tried again
    assert hub.state.repositories["model", REPO].private
    assert len(hub.state.repositories["model", REPO].commits) == 2


def test_others_commit_other_files_at_the_same_time(scene: Scene) -> None:
    scene.restore()
    state = scene.hub.state
    entry = state.regular(b"theirs")
    theirs = Fault("call", call=lambda: state.commit(scene.repository, "main", None, "theirs", {"notes.txt": entry}))
    scene.hub.script.when += [("POST", "/commit/main", theirs)] * 2
    assert scene.push() == ""
    held = scene.repository.files
    assert held["notes.txt"] == entry  # theirs stays
    assert all(held[file.path].sha256 == file.sha256 for file in scene.new)  # ours is whole
    history = [commit.title for commit in scene.repository.commits.values()]
    assert history[-3:] == ["theirs", "theirs", "the new one"]


def test_others_change_the_same_file_at_the_same_time(scene: Scene) -> None:
    scene.restore()
    state = scene.hub.state
    entry = state.regular(b"theirs")
    theirs = Fault("call", call=lambda: state.commit(scene.repository, "main", None, "theirs", {"README.md": entry}))
    scene.hub.script.when.append(("POST", "/commit/main", theirs))
    assert "somebody else has changed README.md" in scene.push()
    assert scene.repository.files["README.md"] == entry
    assert scene.push() == "" and scene.state() == "new"  # told of it, the same command again replaces theirs


def test_two_pushes_at_once_leave_one_whole_release(scene: Scene) -> None:
    """The second one runs from start to end while the first is about to commit."""
    scene.restore()
    scene.hub.script.when.append(("POST", "/commit/main", Fault("call", call=lambda: scene.push())))
    assert scene.push() == ""
    assert scene.state() == "new" and scene.is_whole()
    titles = [commit.title for commit in scene.repository.commits.values()]
    assert titles.count("the new one") == 1  # the first finds what it wanted in place


def test_the_scene_can_fail(scene: Scene) -> None:
    """Another way to publish, file by file, is caught by the same measure."""
    from huggingface_hub import HfApi

    scene.restore()
    api = HfApi(scene.hub.endpoint, token=scene.hub.token)
    api.upload_file(path_or_fileobj=scene.new[0].content, path_in_repo=scene.new[0].path, repo_id=REPO)
    assert scene.state() == "a mixture"
