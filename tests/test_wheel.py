"""`pip install .`: the wheel has every file of the package, and the verbs work from it, far from a checkout."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ideogram_q8.publishing.project import package_files
from tests.publishing.example import manifest, write_build

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, for setuptools leaves its own files beside pyproject.toml; without a network."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds the wheel, is not installed")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in (*package_files(ROOT), "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy / path)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    if "Unsupported" in done.stderr or "invalid pyproject.toml" in done.stderr:
        pytest.skip(f"this setuptools is older than pyproject.toml asks for: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an installer unpacks it, beside nothing of the project."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def started(site: Path, folder: Path, arguments: Sequence[object]) -> subprocess.Popen[str]:
    """The installed program, as its script in bin/ starts it."""
    code = "import sys; from ideogram_q8.__main__ import start; sys.exit(start())"
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def told(site: Path, folder: Path, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a verb."""
    process = started(site, folder, arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert held == set(package_files(ROOT))
    assert any(re.fullmatch(r"ideogram_q8-[^/]+\.dist-info/licenses/LICENSE", name) for name in names)


def test_the_installed_program_is_the_command_line(site: Path) -> None:
    (points,) = site.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read_string(points.read_text(encoding="utf-8"))
    module, _, name = parser["console_scripts"]["ideogram-q8"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_help_names_every_verb(site: Path, tmp_path: Path) -> None:
    from ideogram_q8.__main__ import VERBS

    code, out, _ = told(site, tmp_path, "--help")
    assert code == 0
    for module in VERBS:
        name = module.__name__.rpartition(".")[2]
        assert re.search(rf"^    {name}\b", out, re.MULTILINE), name
        assert told(site, tmp_path, name, "--help")[0] == 0


def test_the_model_is_built_inspected_and_painted(site: Path, tmp_path: Path) -> None:
    assert told(site, tmp_path, "quantize", "pocket", "--scheme", "q8_0", "--out", "build")[0] == 0
    code, out, err = told(site, tmp_path, "inspect", "build")
    assert code == 0 and "q8_0" in out.lower(), err
    line = ("generate", "build", "--caption", "a red star", "--preset", "turbo-12", "--out", "picture.png")
    code, _, err = told(site, tmp_path, *line)
    assert code == 0 and (tmp_path / "picture.png").is_file(), err


def test_a_release_is_planned_with_the_licence_of_the_wheel(site: Path, tmp_path: Path) -> None:
    write_build(tmp_path / "build", manifest())
    code, out, err = told(site, tmp_path, "push", "plan", "build", "--repo", "someone/pocket-int8", "--json")
    assert code == 0, err
    sizes = {file["path"]: file["size"] for file in json.loads(out)["files"]}
    assert sizes["LICENSE"] == (ROOT / "LICENSE").stat().st_size


def test_what_needs_a_checkout_is_refused_in_a_line(site: Path, tmp_path: Path) -> None:
    code, _, err = told(site, tmp_path, "push", "space", "--repo", "someone/space", "--hardware", "cpu-basic", "--dry-run")
    assert (code, err.count("\n")) == (2, 1)
    assert "`space` needs a checkout of this project" in err and "app.py, LICENSE, requirements.txt" in err


def test_the_app_serves_its_page(site: Path, tmp_path: Path) -> None:
    process = started(site, tmp_path, ["app", "--port", 0, "--outputs", tmp_path / "outputs"])
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+\S*", line)
        assert found, line or process.communicate()[1]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[0], timeout=60) as answer:
            assert answer.status == 200 and b"gradio" in answer.read().lower()
    finally:
        process.kill()
        process.communicate()
