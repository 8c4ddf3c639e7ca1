"""The whole way through the real client to a Hub on this machine: what is published is what was built, once, and nothing else leaves."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download

from ideogram_q8.publishing.pushing.receipts import Receipt
from tests.hub.faults import Fault
from tests.hub.scene import REPO, Result, command, connected
from tests.hub.server import Hub
from tests.publishing.example import AGREEMENT, NAMES, REPORT, manifest, refill, sha256, write_build

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # the client's own call of its HTTP library
ROOT = Path(__file__).resolve().parents[2]


def push(build: Path, *more: object, verb: str = "push") -> Result:
    return command(verb, build, "--repo", REPO, *more)


def published(build: Path, *more: object) -> Receipt:
    result = push(build, "--json", *more)
    assert result.code == 0, result.err
    return Receipt.from_json(result.out, "receipt")


def writes(hub: Hub) -> list[str]:
    """Requests that change something."""
    return [f"{r.method} {r.path}" for r in hub.script.seen if r.method not in ("GET", "HEAD")]


def sums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in files}


def test_what_is_downloaded_is_what_was_built(hub: Hub, build: Path, tmp_path: Path) -> None:
    receipt = published(build, "--tag", "v1.0.0", "--collection", "Quantized posters", "--private")
    folder = Path(snapshot_download(REPO, revision="v1.0.0", local_dir=tmp_path / "down", token=hub.token))
    found = sums(folder)
    assert {file.path: file.sha256 for file in receipt.files} == {k: v for k, v in found.items() if k != ".gitattributes"}
    for name in (*NAMES.values(), "manifest.json", "report.json", "samples/star.png"):
        assert (folder / name).read_bytes() == (build / name).read_bytes()
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    assert listed == {path: digest for path, digest in found.items() if path not in ("SHA256SUMS", ".gitattributes")}

    repository = hub.state.repositories["model", REPO]
    assert repository.private and repository.tags == {"v1.0.0": receipt.commit}
    assert [commit.title for commit in repository.commits.values()] == ["initial commit", "int8, v1.0.0, by Ideogram Q8 0.1.0"]
    (collection,) = hub.state.collections.values()
    assert collection["title"] == "Quantized posters"
    assert [item["id"] for item in collection["items"]] == [REPO]  # type: ignore[attr-defined]


def test_a_gate_is_there_before_the_files_are(hub: Hub, build: Path) -> None:
    assert push(build, "--gated", "manual").code == 0
    repository = hub.state.repositories["model", REPO]
    assert repository.gated == "manual"
    order = [request.path.rsplit("/", 2)[-2:] for request in hub.script.seen if request.method in ("PUT", "POST")]
    settings = next(i for i, path in enumerate(order) if path[1] == "settings")
    assert settings < next(i for i, path in enumerate(order) if path[0] in ("storage", "preupload"))
    assert push(build).code == 0 and repository.gated == "manual"  # left as it is
    before = len(hub.script.seen)
    assert push(build, "--gated", "auto").code == 0 and repository.gated == "auto"  # also of what is there already
    assert [request.method for request in hub.script.seen[before:] if request.method not in ("GET", "HEAD")] == ["PUT"]


def test_the_receipt_is_beside_the_build_and_says_what_is_there(hub: Hub, build: Path) -> None:
    receipt = published(build, "--tag", "v1")
    path = build.with_name("build.someone--pocket-int8.receipt.json")
    assert path.read_text(encoding="utf-8") == receipt.to_json()
    assert receipt.url == f"{hub.endpoint}/{REPO}"
    assert (receipt.parent, receipt.tag, receipt.revision) == (None, "v1", "main")
    assert receipt.artifacts == {"": manifest().artifact_sha256}
    assert receipt.commit == hub.state.repositories["model", REPO].branches["main"]


def test_a_second_push_does_nothing(hub: Hub, build: Path) -> None:
    first = published(build, "--tag", "v1")
    before, received = len(hub.script.seen), hub.received
    result = push(build)
    assert result.code == 0 and "was published already, nothing was sent" in result.out
    assert hub.received == received
    assert {request.method for request in hub.script.seen[before:]} == {"GET", "HEAD"}
    assert len(hub.state.repositories["model", REPO].commits) == 2
    assert published(build, "--tag", "v1").commit == first.commit  # nor does it mind its own tag


def test_a_changed_file_alone_is_sent(hub: Hub, build: Path) -> None:
    published(build)
    received = hub.received
    refill(build, b"\2")
    published(build)
    assert hub.received - received == sum((build / name).stat().st_size for name in NAMES.values())
    assert len(hub.state.repositories["model", REPO].commits) == 3


def test_a_dry_run_says_what_would_happen_and_sends_nothing(hub: Hub, build: Path) -> None:
    values = json.loads(push(build, "--dry-run", "--json").out)
    assert values["remote"] == {"consulted": True, "parent": None}
    assert writes(hub) == []
    receipt = published(build)
    refill(build, b"\2")
    values = json.loads(push(build, "--dry-run", "--json").out)
    assert values["remote"]["parent"] == receipt.commit
    actions = {file["path"]: file["action"] for file in values["files"]}
    assert actions["LICENSE"] == actions["samples/star.png"] == "skip" and actions[NAMES["conditional"]] == "replace"
    assert "does not exist yet and would be made" in command("push", build, "--repo", "someone/other", "--dry-run").out


def test_a_plan_that_is_out_of_date_is_refused(hub: Hub, build: Path) -> None:
    planned = published(build).commit
    refill(build, b"\2")
    published(build)
    refill(build, b"\3")
    received = hub.received
    result = push(build, "--parent", planned)
    assert result.code == 2 and "has changed since the plan" in result.err
    assert hub.received == received
    head = hub.state.repositories["model", REPO].branches["main"]
    assert push(build, "--parent", head).code == 0


def test_large_files_go_in_parts_where_the_hub_asks_for_it(hub: Hub, build: Path) -> None:
    hub.part_bytes = 700
    receipt = published(build)
    assert [r for r in hub.script.seen if r.path.startswith("/complete/")]
    stored = hub.state.blobs.path(next(f.sha256 for f in receipt.files if f.path == NAMES["conditional"]))
    assert stored.read_bytes() == (build / NAMES["conditional"]).read_bytes()


def test_a_branch_is_made_and_main_stays(hub: Hub, build: Path) -> None:
    published(build)
    refill(build, b"\2")
    receipt = published(build, "--revision", "next")
    repository = hub.state.repositories["model", REPO]
    assert receipt.commit == repository.branches["next"] != repository.branches["main"]
    assert build.with_name("build.someone--pocket-int8.next.receipt.json").is_file()
    assert push(build, verb="status").code == 1 and push(build, "--revision", "next", verb="status").code == 0


def test_status_and_verify_compare(hub: Hub, build: Path) -> None:
    assert push(build, verb="status").code == 1
    published(build)
    assert "holds exactly this" in push(build, verb="status").out
    assert "8 files verified" in push(build, verb="verify").out
    repository = hub.state.repositories["model", REPO]
    hub.state.commit(repository, "main", None, "theirs", {"LICENSE": hub.state.regular(b"other"), "x": hub.state.regular(b"")})
    status = push(build, verb="status")
    assert status.code == 1
    assert {line.split()[1]: line.split()[0] for line in status.out.splitlines()[2:]} | {
        "LICENSE": "differs",
        "x": "extra",
    } == {line.split()[1]: line.split()[0] for line in status.out.splitlines()[2:]}
    verified = push(build, verb="verify")
    assert verified.code == 2 and "LICENSE has 5 bytes instead of" in verified.err
    assert json.loads(push(build, "--json", verb="status").out)["done"] is False


def test_rollback_brings_back_what_was_there(hub: Hub, build: Path) -> None:
    published(build)
    repository = hub.state.repositories["model", REPO]
    old = dict(repository.files)
    refill(build, b"\2")
    (build / "samples" / "star.png").write_bytes(b"x")
    shutil.copy(ROOT / "LICENSE", build / "LICENSE")
    report = json.loads((build / "report.json").read_text(encoding="utf-8"))
    report["variants"][1]["samples"] = []
    (build / "report.json").write_text(json.dumps(report), encoding="utf-8")
    published(build, "--prune", "--tag", "v2")
    assert "samples/star.png" not in repository.files
    received = hub.received
    result = push(build, verb="rollback")
    assert result.code == 0, result.err
    assert dict(repository.files) == old and hub.received == received
    assert len(repository.commits) == 4  # history stays
    assert push(build, "--to", "v2", verb="rollback").code == 0
    assert dict(repository.files) == dict(repository.at("v2").files)


def test_rollback_of_a_first_push_is_refused(hub: Hub, build: Path) -> None:
    assert "there is no receipt" in push(build, verb="rollback").err
    published(build)
    assert "was made by the push" in push(build, verb="rollback").err


def test_several_types_in_one_repository(hub: Hub, tmp_path: Path) -> None:
    family = tmp_path / "family"
    write_build(family / "plain", manifest(), REPORT)
    other = dataclasses.replace(manifest(), variant="int8-auto")
    write_build(family / "auto", other)
    report = dataclasses.replace(REPORT.variants[1], name="int8-auto")
    both = dataclasses.replace(REPORT, variants=(*REPORT.variants, report))
    for name in ("plain", "auto"):
        (family / name / "report.json").write_text(both.to_json(), encoding="utf-8")
    receipt = published(family, "--sibling", "someone/pocket-gguf")
    paths = {file.path for file in receipt.files}
    assert {"README.md", "LICENSE", "SHA256SUMS", "auto/README.md", "plain/README.md", "auto/manifest.json"} <= paths
    card = hub.state.blobs.path(hub.state.repositories["model", REPO].files["README.md"].sha256).read_text(encoding="utf-8")
    assert "| [`auto`](auto/README.md) | INT8 W8A8, recipe auto |" in card and "45.20 dB" in card
    assert "https://huggingface.co/someone/pocket-gguf" in card
    assert receipt.artifacts.keys() == {"auto/", "plain/"}
    (family / "auto" / "manifest.json").write_text(manifest().to_json(), encoding="utf-8")
    assert "takes one of each" in push(family).err


def test_the_folder_of_the_source_does_not_become_public(hub: Hub, tmp_path: Path) -> None:
    source = tmp_path / "secret-folder"
    source.mkdir()
    (source / "LICENSE.md").write_text(AGREEMENT, encoding="utf-8")
    build = write_build(tmp_path / "build", manifest(str(source)), REPORT)
    receipt = published(build)
    assert {"LICENSE.md", "Notice"} <= {file.path for file in receipt.files}
    for file in receipt.files:
        assert b"secret-folder" not in hub.state.blobs.path(file.sha256).read_bytes()
    stored = next(file.sha256 for file in receipt.files if file.path == "manifest.json")
    text = json.loads(hub.state.blobs.path(stored).read_text(encoding="utf-8"))
    assert text["source"] == {
        **json.loads((build / "manifest.json").read_text())["source"],
        "location": "ideogram-ai/ideogram-4-fp8",
    }
    assert receipt.artifacts[""] == manifest(str(source)).artifact_sha256


def test_xet_stores_the_large_files_and_one_commit_names_them(build: Path, tmp_path: Path) -> None:
    """With a storage folder in place of the Hub's xet servers, which real hf_xet takes by the address `local://`."""
    with connected(tmp_path / "xet", xet=True) as hub:
        receipt = published(build, "--tag", "v1")
        repository = hub.state.repositories["model", REPO]
        assert {path: entry.sha256 for path, entry in repository.files.items() if path in NAMES.values()} == {
            name: sha256((build / name).read_bytes()) for name in NAMES.values()
        }
        assert hub.received == 0 and len(repository.commits) == 2 and repository.tags == {"v1": receipt.commit}
        assert hub.xet is not None
        assert sum(path.stat().st_size for path in hub.xet.rglob("*") if path.is_file()) > 1000
        assert "nothing was sent" in push(build).out
        refill(build, b"\2")
        hub.script.when.append(("GET", "/xet-write-token/", Fault("status", 403)))
        result = push(build)
        assert result.code == 2 and "sending " in result.err.splitlines()[-1]
        assert repository.branches["main"] == receipt.commit
        assert push(build).code == 0


def test_api_of_the_loopback_hub_is_the_real_clients(hub: Hub) -> None:
    """The stand-in answers what the client asks beyond a push."""
    api = HfApi(hub.endpoint, token=hub.token)
    api.create_repo("someone/x")
    commit = api.upload_file(path_or_fileobj=b"hello\n", path_in_repo="a/hello.txt", repo_id="someone/x")
    assert api.file_exists("someone/x", "a/hello.txt") and not api.file_exists("someone/x", "b")
    assert [info.path for info in api.get_paths_info("someone/x", ["a/hello.txt"])] == ["a/hello.txt"]
    assert api.list_repo_commits("someone/x")[0].commit_id == commit.oid
