"""One direction: a module imports smaller ranks only, and nothing that requirements.txt does not name."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ideogram_q8"

# The longest matching name counts. Modules of one package may import each other.
RANKS = {
    "ideogram_q8.errors": 0,
    "ideogram_q8.strict_json": 0,
    "ideogram_q8.devices": 0,
    "ideogram_q8.nvml": 0,
    "ideogram_q8.file_kinds": 0,
    "ideogram_q8.architecture": 0,
    "ideogram_q8.caption": 0,
    "ideogram_q8.caption.repair": 1,
    "ideogram_q8.components": 1,
    "ideogram_q8.generation": 1,
    "ideogram_q8.generation.latent_norm": 1,
    "ideogram_q8.manifest": 1,
    "ideogram_q8.report": 1,
    "ideogram_q8.threads": 1,
    "ideogram_q8.numerics": 1,
    "ideogram_q8.checkpoint": 2,
    "ideogram_q8.schemes": 1,
    "ideogram_q8.recipe": 2,
    "ideogram_q8.recipe.table": 3,
    "ideogram_q8.recipe.rules": 4,
    "ideogram_q8.kernels": 2,
    "ideogram_q8.artifact.packed": 2,
    "ideogram_q8.layers": 1,
    "ideogram_q8.layers.packed": 3,
    "ideogram_q8.layers.fusing": 3,
    "ideogram_q8.layers.folding": 3,
    "ideogram_q8.artifact": 3,
    "ideogram_q8.calibration": 2,
    "ideogram_q8.calibration.importance": 3,
    "ideogram_q8.calibration.statistics": 3,
    "ideogram_q8.calibration.recorder": 3,
    "ideogram_q8.calibration.captions": 6,
    "ideogram_q8.calibration.offloading": 6,
    "ideogram_q8.calibration.run": 6,
    "ideogram_q8.policies": 4,
    "ideogram_q8.quantization": 4,
    "ideogram_q8.conversion": 5,
    "ideogram_q8.loading": 1,
    "ideogram_q8.loading.networks": 4,
    "ideogram_q8.loading.encoder_file": 4,
    "ideogram_q8.memory": 1,
    "ideogram_q8.memory.usage": 3,
    "ideogram_q8.memory.budget": 4,
    "ideogram_q8.memory.inventory": 4,
    "ideogram_q8.generation.decoding": 3,
    "ideogram_q8.generation.preview": 3,
    "ideogram_q8.generation.denoising": 4,
    "ideogram_q8.text": 1,
    "ideogram_q8.text.encoding": 4,
    "ideogram_q8.text.caption_cache": 4,
    "ideogram_q8.text.expansion": 4,
    "ideogram_q8.loading.streaming": 3,
    "ideogram_q8.loading.opening": 4,
    "ideogram_q8.loading.published": 4,
    "ideogram_q8.loading.text_encoder": 5,
    "ideogram_q8.loading.planning": 5,
    "ideogram_q8.loading.model": 5,
    "ideogram_q8.png": 5,
    "ideogram_q8.generation.sampling": 5,
    "ideogram_q8.variants": 5,
    "ideogram_q8.inspection": 6,
    "ideogram_q8.bench": 6,
    "ideogram_q8.evaluation": 6,
    "ideogram_q8.evaluation.captions": 4,
    "ideogram_q8.evaluation.suite": 5,
    "ideogram_q8.pocket": 1,
    "ideogram_q8.pocket.data": 4,
    "ideogram_q8.pocket.tokenizer": 4,
    "ideogram_q8.pocket.model": 6,
    "ideogram_q8.pocket.export": 6,
    "ideogram_q8.pocket.planted": 6,
    "ideogram_q8.pocket.train": 6,
    "ideogram_q8.pocket.measure": 7,
    "ideogram_q8.ui": 7,
    "ideogram_q8.commands": 7,
    "ideogram_q8.__main__": 8,
    "ideogram_q8": 7,
    "publish": 7,
    "publish.space_app.start": 9,
    "publish.space_app.zero": 9,
    "app": 8,
}
WITHIN_A_RANK = {
    ("ideogram_q8.generation.sampling", "ideogram_q8.loading.model"),
}
"""(importer, imported) of equal rank, allowed."""
# publish/space_app is what a Space runs, beside app.py: publishing copies it and imports none of it.
FOR_EVERYONE = "ideogram_q8.errors"
PUBLISH_MAY_IMPORT = {
    f"ideogram_q8.{name}" for name in ("errors", "architecture", "manifest", "report", "schemes", "strict_json")
}
MAKES_PICTURES = {"publish.cards": {"ideogram_q8.evaluation.compare", "ideogram_q8.evaluation.showcase"}}
"""From a finished evaluation, on the machine that ran it."""
WITHOUT_TORCH = {
    "errors",
    "strict_json",
    "architecture",
    "components",
    "schemes",
    "caption/__init__",
    "caption/json_form",
    "caption/repair",
    "manifest",
    "file_kinds",
    "report",
    "inspection",
    "__init__",
    "__main__",
}

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


def home(module: str) -> str:
    """The entry of RANKS that a module belongs to."""
    if module in RANKS and module != PACKAGE:
        return module
    parent = module.rpartition(".")[0]
    assert parent not in ("", PACKAGE), f"{module} has no rank: add it to RANKS and to the map"
    return home(parent)


def unit(module: str) -> str:
    """The file or folder right under the package that a module belongs to."""
    return ".".join(module.split(".")[: 2 if module.startswith(f"{PACKAGE}.") else 1])


@pytest.mark.parametrize("module", [name for name in MODULES if name != PACKAGE])
def test_a_module_imports_smaller_ranks_only(module: str):
    own = home(module)
    for name in imported(MODULES[module]):
        if name.split(".")[0] not in (PACKAGE, "publish", "app"):
            continue
        assert name != PACKAGE, f"{module} imports the package root; import the module that holds the name"
        if name == FOR_EVERYONE or unit(module) == unit(name) or (module, name) in WITHIN_A_RANK:
            continue
        other = home(name)
        assert RANKS[other] < RANKS[own], f"{module} (rank {RANKS[own]}) imports {name} (rank {RANKS[other]})"


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) == "publish" and home(name) == "publish"])
def test_publishing_needs_no_model(module: str):
    names = {name for name in imported(MODULES[module]) if name.startswith(PACKAGE)}
    assert names <= PUBLISH_MAY_IMPORT | MAKES_PICTURES.get(module, set())
    assert "torch" not in {name.split(".")[0] for name in imported(MODULES[module])}


@pytest.mark.parametrize("stem", sorted(WITHOUT_TORCH))
def test_light_modules_import_no_torch(stem: str):
    heavy = {"torch", "numpy", "diffusers", "transformers", "safetensors", "PIL"}
    assert not heavy & {name.split(".")[0] for name in imported(ROOT / PACKAGE / f"{stem}.py")}


def test_every_rank_names_something_that_exists():
    assert set(RANKS) <= set(MODULES)


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


def test_requirements_name_exactly_what_is_imported():
    own = {PACKAGE, "publish", "app", *sys.stdlib_module_names, *MEASURING_NEEDS_THE_TEST_SETUP, *OPTIONAL, *OF_THE_SPACE}
    roots = {name.split(".")[0] for path in FILES for name in imported(path)} - own
    needed = {{"PIL": "pillow"}.get(root, root).lower().replace("_", "-") for root in roots}
    assert needed == declared()
