"""A Space is a folder that starts by itself, names what it runs on, carries its licences, and is pushed as guardedly as weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any

import gradio
import pytest
import yaml
from PIL import Image

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.pushing import hub as client
from ideogram_q8.publishing.pushing.sending import PushOrder, push
from ideogram_q8.publishing.space.space import (
    HARDWARE,
    UNMEASURED_SECONDS,
    SpaceBuild,
    assemble,
    files_of,
    lending,
    requirements,
)
from ideogram_q8.publishing.space.space_command import read_build
from ideogram_q8.publishing.space.space_start import check_fresh, check_start, running, wait_for
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.hub.scene import command
from tests.hub.server import Hub
from tests.hub.state import Account, Repository
from tests.publishing.example import AGREEMENT, REPORT, manifest, report_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=")]
SPACE = "someone/ideogram-q8"
TEXTS = {"LICENSE.md": AGREEMENT, "Notice": "Ideogram 4 is provided under ..."}
IDEOGRAM = SpaceBuild("someone/int8", "c" * 40, manifest("ideogram-ai/ideogram-4-fp8"), None, TEXTS)
POCKET = SpaceBuild("someone/pocket-int8", "d" * 40, manifest(), None, {})


def metadata(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_the_folder_names_what_it_needs(tmp_path: Path) -> None:
    assemble(tmp_path / "space", "l4x1", [IDEOGRAM])
    values = metadata(tmp_path / "space")
    assert {
        "sdk": "gradio",
        "python_version": "3.12",
        "app_file": "start.py",
        "suggested_hardware": "l4x1",
    }.items() <= values.items()
    assert values["models"] == ["someone/int8"] and values["license_name"] == "ideogram-4-non-commercial"
    assert len(values["short_description"]) <= 60  # the Hub's limit
    settings = json.loads((tmp_path / "space" / "space.json").read_text(encoding="utf-8"))
    assert settings["variants"] == [{"repo": "someone/int8", "revision": "c" * 40, "name": "int8"}]
    assert (tmp_path / "space" / "LICENSE.md").read_text(encoding="utf-8") == AGREEMENT
    page = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert "not endorsed by Ideogram, Inc." in page and "secret `HF_TOKEN`" in page
    files = {file.path for file in files_of(tmp_path / "space")}
    assert {"app.py", "start.py", "LICENSE", "Notice", "ideogram_q8/pocket/weights/vae/config.json"} <= files
    assert not any("__pycache__" in path or path.startswith("tests") for path in files)


@pytest.mark.parametrize("hardware", HARDWARE)
def test_requirements_suit_the_hardware(hardware: str) -> None:
    lines = requirements(hardware).splitlines()
    assert not any(line.startswith("gradio") for line in lines)  # the Space's metadata name it
    torch = [line for line in lines if line.startswith("torch") and not line.startswith("torchmetrics")]
    assert ("spaces>=0.51,<1" in lines) == (hardware == "zero-a10g")
    expected = {"zero-a10g": "torch==2.11.0", "cpu-basic": "torch==2.13.0+cpu", "cpu-upgrade": "torch==2.13.0+cpu"}
    assert len(torch) == 1 and torch[0].startswith(expected.get(hardware, "torch>=2.13"))
    assert any(line.startswith("diffusers") for line in lines)


def test_what_cannot_be_a_space_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(PublishError, match="holds something else than a Space"):
        assemble(other, "cpu-basic", [])
    assert (other / "thesis.txt").is_file()
    with pytest.raises(PublishError, match="name builds with --variant"):
        assemble(tmp_path / "space", "zero-a10g", [])
    with pytest.raises(PublishError, match="different licences"):
        assemble(tmp_path / "space", "l4x1", [IDEOGRAM, POCKET])
    with pytest.raises(PublishError, match="has no Notice"):
        assemble(tmp_path / "space", "l4x1", [dataclasses.replace(IDEOGRAM, texts={"LICENSE.md": AGREEMENT})])
    assert not (tmp_path / "space").exists()


def test_the_gpu_is_asked_for_as_long_as_was_measured() -> None:
    assert lending(20, dataclasses.replace(POCKET, report=REPORT)) == UNMEASURED_SECONDS  # that was a CPU
    hardware = dataclasses.replace(REPORT.hardware, device="cuda", accelerator="some GPU")
    measured = dataclasses.replace(POCKET, report=dataclasses.replace(REPORT, hardware=hardware))
    assert lending(20, measured) == 13  # 2 x 20 steps x 0.0512 s, rounded up, and 10 s beside


def test_the_pocket_space_starts_from_its_folder(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    options = ["space", "--repo", SPACE, "--hardware", "cpu-basic", "--check", "here", "--out", folder]
    result = command(*options, "--private", "--dry-run")
    assert result.code == 0, result.err
    assert all(request.method == "GET" for request in hub.script.seen)
    where = "import ideogram_q8; print(ideogram_q8.__file__)"
    home = subprocess.run([sys.executable, "-c", where], cwd=folder, capture_output=True, text=True, check=True, env={})
    assert home.stdout.strip() == str(folder / "ideogram_q8" / "__init__.py")


def test_a_space_is_pushed_whole_and_moves_to_other_hardware(hub: Hub, tmp_path: Path) -> None:
    assemble(tmp_path / "space", "cpu-basic", [])
    files = tuple(files_of(tmp_path / "space"))
    order = PushOrder(files, "the Space", hardware="cpu-basic", prune=True, read_back=False)
    space = client.Hub(SPACE, "space")
    outcome = push(space, order, lambda _: None)
    repository = hub.state.repositories["space", SPACE]
    assert repository.settings["hardware"] == "cpu-basic" and repository.settings["sdk"] == "gradio"
    held = {path: entry.sha256 for path, entry in repository.files.items() if path != ".gitattributes"}
    assert held == {file.path: file.sha256 for file in files} and len(repository.commits) == 2
    assert outcome.commit == repository.branches["main"]
    again = push(space, dataclasses.replace(order, files=files[1:], hardware="cpu-upgrade"), lambda _: None)
    assert again.changed and files[0].path not in repository.files  # what the folder no longer has goes
    assert repository.settings["hardware"] == "cpu-upgrade"


LENDER = """
import sys
from pathlib import Path

assert "torch" not in sys.modules  # for which the real one stands in until a call


def GPU(duration):
    def decorate(function):
        def lent(*arguments):
            Path(__file__).with_name("asked.txt").write_text(str(duration(*arguments)))
            return function(*arguments)

        return lent

    return decorate
"""
"""In place of the package `spaces`: lends nothing, and notes for how long it was asked."""


def call(address: str, *arguments: object) -> str:
    """What a page's `paint` answers, through its API: the stream's last event and its data."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url, body = f"{address}/gradio_api/call/paint", json.dumps({"data": arguments}).encode()
    with opener.open(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with opener.open(f"{url}/{event}", timeout=60) as answer:
        return str(answer.read().decode())


def test_the_page_of_zero_gpu_paints_with_the_published_build(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source("pocket")
    build = quantize(source, choose("q8_0", source.config), tmp_path / "build")
    report = report_of(build)
    report = dataclasses.replace(report, hardware=dataclasses.replace(report.hardware, device="cuda", accelerator="some GPU"))
    (tmp_path / "build" / "report.json").write_text(report.to_json(), encoding="utf-8")
    assert command("push", tmp_path / "build", "--repo", "someone/pocket-q8_0").code == 0
    revision = hub.state.repositories["model", "someone/pocket-q8_0"].branches["main"]
    folder = tmp_path / "space"
    assemble(folder, "zero-a10g", [read_build("someone/pocket-q8_0@main")])
    settings = json.loads((folder / "space.json").read_text(encoding="utf-8"))
    assert settings["variants"] == [{"repo": "someone/pocket-q8_0", "revision": revision, "name": "q8_0"}]
    (folder / "spaces.py").write_text(LENDER, encoding="utf-8")
    places = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    for name, value in (places | {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}).items():
        monkeypatch.setenv(name, value)
    with running(folder, "zero.py") as space:
        wait_for(space)
        assert "q8_0 is on cpu, 0.02 GB" in space.said()  # text encoder included: what is loaded in a call is lost with it
        said = call(space.address, "q8_0", "a red star on a blue background", 4, "turbo-12")
        refused = call(space.address, "q8_0", "{", 4, "turbo-12")
    found = re.search(r'event: complete\ndata: \[\{"path": "([^"]+)"', said)
    assert found, said
    with Image.open(found[1]) as picture:
        assert picture.size == (128, 128) and len(set(picture.tobytes())) > 10
    assert "event: error" in refused
    assert (folder / "asked.txt").read_text() == "12"  # 2 x 12 steps x 0.0512 s, rounded up, and 10 s beside


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module zero.py of an assembled Space, with nobody to lend a GPU."""
    monkeypatch.setitem(sys.modules, "spaces", types.ModuleType("spaces"))
    specification = importlib.util.spec_from_file_location("zero", folder / "zero.py")
    assert specification and specification.loader
    zero = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(zero)
    return zero


@pytest.fixture
def gated(hub: Hub) -> Repository:
    """The repository of the weights, gated as it is, and a visitor's token."""
    repository = hub.state.create("model", "ideogram-ai/ideogram-4-fp8")
    repository.gated = "auto"
    hub.state.accounts["hf_visitor"] = Account("visitor")
    return repository


def test_visitors_have_accepted_the_terms_themselves(
    gated: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assemble(tmp_path / "space", "zero-a10g", [IDEOGRAM], visitors_log_in=True)
    values = metadata(tmp_path / "space")
    assert values["hf_oauth"] is True and values["hf_oauth_scopes"] == ["gated-repos"]
    check = page_of(tmp_path / "space", monkeypatch).check_visitor
    with pytest.raises(gradio.Error, match="log in first"):
        check(None)
    with pytest.raises(gradio.Error, match="accept the terms at https://huggingface.co/ideogram-ai/ideogram-4-fp8"):
        check("hf_visitor")
    with pytest.raises(gradio.Error, match="the Hub does not say"):
        check("hf_nobody")
    gated.accepted.add("visitor")
    check("hf_visitor")


def test_without_a_reason_nobody_logs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for hardware, builds in (("zero-a10g", [POCKET]), ("l4x1", [IDEOGRAM])):
        with pytest.raises(PublishError, match="leave out --visitors-log-in"):
            assemble(tmp_path / "space", hardware, builds, visitors_log_in=True)
    assemble(tmp_path / "space", "zero-a10g", [POCKET])
    assert "hf_oauth" not in metadata(tmp_path / "space")
    page_of(tmp_path / "space", monkeypatch).check_visitor(None)


def test_a_space_that_does_not_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no such thing')", encoding="utf-8")
    with pytest.raises(PublishError, match="ended with exit code 1: no such thing; correct it"):
        check_start(tmp_path, "broken.py")
    (tmp_path / "idle.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    with pytest.raises(PublishError, match="showed no page in 0 s"):
        check_start(tmp_path, "idle.py", patience=0.3)


def test_the_python_of_the_space_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PublishError, match=r"there is no python3\.12 that runs, .* or use --check here"):
        check_fresh(tmp_path, "start.py", "6.31.0")


def test_a_variant_that_is_no_build_is_refused(hub: Hub) -> None:
    for repo in ("someone/none", "someone/empty"):
        if repo.endswith("empty"):
            hub.state.create("model", repo)
        with pytest.raises(PublishError, match="is not a build that `push` has published"):
            read_build(repo)
