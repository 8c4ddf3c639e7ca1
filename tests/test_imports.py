"""One direction: a package imports only packages above it in RANKS, and nothing that requirements.txt does not name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ideogram_q8"

RANKS = (
    *(
        "errors",
        "model",
        "machine",
        "numerics",
        "formats",
        "hub",
        "pocket",
        "captions",
        "sources",
        "recipes",
        "builds",
        "runtime",
    ),
    *("calibration", "policies", "measure", "bench", "studies", "training", "ui", "publishing", "commands", "__main__"),
)
"""Packages and modules right below ideogram_q8, each above all that may import it."""

FILES = sorted([*ROOT.glob("ideogram_q8/**/*.py"), *ROOT.glob("publish/**/*.py"), ROOT / "app.py"])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def own(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    return {name for name in imported(path) if name.partition(".")[0] == PACKAGE}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(f"{PACKAGE}.")])
def test_a_package_imports_those_above_it_only(module: str) -> None:
    package = module.split(".")[1]
    for name in own(MODULES[module]):
        assert name != PACKAGE, f"{module} imports the package root; import the module that holds the name"
        other = name.split(".")[1]
        assert RANKS.index(other) <= RANKS.index(package), f"{module} imports {name}, which lies below it"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: own(path) & set(MODULES) for module, path in MODULES.items() if module != PACKAGE}
    while leaves := {module for module, needed in graph.items() if not needed & set(graph) - {module}}:
        graph = {module: needed for module, needed in graph.items() if module not in leaves}
    assert not graph, sorted(graph)


def test_every_rank_names_something_that_exists() -> None:
    assert {f"{PACKAGE}.{name}" for name in RANKS} == {
        ".".join(name.split(".")[:2]) for name in MODULES if name.startswith(f"{PACKAGE}.")
    }


@pytest.mark.parametrize("apart", ["studies", "training"])
def test_what_is_apart_serves_nobody_but_the_command_line(apart: str) -> None:
    prefix = f"{PACKAGE}.{apart}"
    users = {module for module, path in MODULES.items() if any(name.startswith(prefix) for name in own(path))}
    assert {name for name in users if not name.startswith((f"{PACKAGE}.commands.", prefix))} == set()


CAPTION_FORM = (
    "__init__",
    "box_forms",
    "findings",
    "json_form",
    "keys",
    "notation",
    "reading",
    "repair",
    "unwrap",
    "yaml_form",
)
WITHOUT_TORCH = (
    "errors.py",
    "model",
    "hub",
    *(f"captions/{name}.py" for name in CAPTION_FORM),
    "publishing",
)
LIGHT_FORMATS = (
    *("strict_json", "manifest", "metrics", "report", "names", "file_kinds", "safetensors_header", "gguf_header", "whole_file"),
    "quantities",
)
HEAVY = {"torch", "numpy", "diffusers", "transformers", "safetensors", "PIL"}
MAKES_PICTURES = {"cards"}
"""Modules of publishing/cards that read a finished evaluation, on the machine that ran it."""


def files_of(place: str) -> list[Path]:
    found = ROOT / PACKAGE / place
    return [found] if found.suffix else [path for path in sorted(found.rglob("*.py")) if "space_app" not in path.parts]


@pytest.mark.parametrize(
    "path",
    [path for place in (*WITHOUT_TORCH, *(f"formats/{name}.py" for name in LIGHT_FORMATS)) for path in files_of(place)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_light_modules_import_no_torch(path: Path) -> None:
    assert not HEAVY & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize(
    "path",
    [path for path in files_of("publishing") if path.stem not in MAKES_PICTURES and "space_app" not in path.parts],
    ids=lambda path: path.stem,
)
def test_publishing_needs_no_model(path: Path) -> None:
    allowed = ("errors", "machine.", "model.", "formats.", "hub.", "recipes", "publishing")
    assert all(name.removeprefix(f"{PACKAGE}.").startswith(allowed) for name in own(path))


def test_publishing_loads_no_torch() -> None:
    """Nor does what it imports, at run time."""
    prefix = f"{PACKAGE}.publishing"
    names = [
        name for name in MODULES if name.startswith(prefix) and name.split(".")[-1] not in {*MAKES_PICTURES, "start", "zero"}
    ]
    code = f"import sys, importlib; [importlib.import_module(name) for name in {names!r}]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


MEASURING_NEEDS_THE_TEST_SETUP = {"rapidocr", "pynvml"}
"""Imported where they are there; rapidocr is named in tests/requirements.txt, pynvml needs a graphics card."""

OPTIONAL = {"triton", "torchao", "sdnq"}
"""Faster where they are installed: CUDA builds of torch bring triton;
`bench` measures torchao and SDNQ beside ours where a user has them."""

OF_THE_SPACE = {"spaces"}
"""Imported by the page of ZeroGPU, whose own requirements name it."""


def declared() -> set[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=~!\[; ]", line)[0].lower().replace("_", "-") for line in lines if line and line[0] not in "#-"}


def test_requirements_name_exactly_what_is_imported() -> None:
    known = {PACKAGE, "app", *sys.stdlib_module_names, *MEASURING_NEEDS_THE_TEST_SETUP, *OPTIONAL, *OF_THE_SPACE}
    roots = {name.split(".")[0] for path in FILES for name in imported(path)} - known
    needed = {{"PIL": "pillow", "yaml": "pyyaml"}.get(root, root).lower().replace("_", "-") for root in roots}
    assert needed == declared()
