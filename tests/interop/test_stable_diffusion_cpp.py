"""stable-diffusion.cpp itself opens our files: it validates every tensor's name, shape and type before it reads a weight.

It comes in the wheel of inferna (PyPI, MIT, 0.7.0: stable-diffusion.cpp master-898 on upstream ggml) for Python 3.12 and later, and runs in
a process of such an interpreter, which need not be the tests' own. That is the one that Q8_SD_CPP_PYTHON names, or else the first of
python3.15 to python3.12 in PATH that has inferna; Q8_SD_CPP_PACKAGES may name a folder with the unzipped wheel.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ideogram_q8.builds.layout import Packaging
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4
from ideogram_q8.model.schemes import BLOCKS, PRESETS
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.rules import apply_rules
from tests.interop.sparse import QWEN3_VL_8B, records, write_part, write_vae

PROGRAM = """
import json, sys
from inferna import sd
log, files = [], json.loads(sys.argv[1])
sd.set_log_callback(lambda level, text: log.append(text.strip()))
parameters = sd.SDContextParams(n_threads=1)
for name, path in files.items():
    setattr(parameters, name, path)
try:
    sd.SDContext(parameters)
    print(json.dumps({"opened": True, "log": log}))
except RuntimeError as error:
    print(json.dumps({"opened": False, "log": [*log, str(error)]}))
"""
NAMES = ("python3.15", "python3.14", "python3.13", "python3.12")


def environment() -> dict[str, str]:
    packages = os.environ.get("Q8_SD_CPP_PACKAGES")
    return dict(os.environ) | ({"PYTHONPATH": packages} if packages else {})


@functools.cache
def interpreter() -> str | None:
    """One that can import inferna."""
    named = os.environ.get("Q8_SD_CPP_PYTHON")
    for name in (named,) if named else NAMES:
        path = shutil.which(name)
        if path is not None:
            done = subprocess.run([path, "-c", "import inferna.sd"], env=environment(), capture_output=True, check=False)
            if done.returncode == 0:
                return path
    return None


pytestmark = pytest.mark.skipif(
    interpreter() is None,
    reason="no Python >= 3.12 with inferna: pip install inferna==0.7.0 there, and name it in Q8_SD_CPP_PYTHON",
)


class Verdict:
    """What stable-diffusion.cpp says of files: whether it opened them, and its log."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.opened: bool = answer["opened"]
        self.log: str = "\n".join(answer["log"])

    def types(self, of: str) -> dict[str, int]:
        """How many tensors of each type it counted, as in `Diffusion model weight type stat: f32: 494 | q8_0: 68`."""
        (line,) = re.findall(rf"{of} weight type stat:(.*)", self.log)
        return {name.lower(): int(count) for name, count in re.findall(r"(\w+): *(\d+)", line)}


def verdict(**files: Path) -> Verdict:
    command = [str(interpreter()), "-c", PROGRAM, json.dumps({name: str(path) for name, path in files.items()})]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Verdict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vae(tmp_path_factory.mktemp("vae"))


def of_type(kind: str) -> tuple[Recipe, Recipe]:
    """Recipes of transformers and text encoder: a preset's, or with a type in all blocks."""
    if kind in PRESETS:
        return choose(kind, IDEOGRAM4), choose(kind, QWEN3_VL_8B)
    rule = [("layers.*", kind)], [("language_model.layers.*", kind)]
    return apply_rules(choose("q8_0", IDEOGRAM4), rule[0], IDEOGRAM4), apply_rules(
        choose("q8_0", QWEN3_VL_8B), rule[1], QWEN3_VL_8B
    )  # type: ignore[arg-type]


def paths(folder: Path, transformers: Recipe, encoder: Recipe, vae: Path) -> dict[str, Path]:
    names = ("diffusion_model_path", "uncond_diffusion_model_path")
    found = {name: write_part(folder, transformers, branch) for name, branch in zip(names, BRANCHES, strict=True)}
    return found | {"llm_path": write_part(folder, encoder, "text_encoder"), "vae_path": vae}


@pytest.mark.parametrize("kind", [*PRESETS, *(kind for kind in BLOCKS if kind not in PRESETS), "bf16", "f16", "f32"])
def test_every_scheme_opens_at_full_size(tmp_path: Path, vae: Path, kind: str):
    transformers, encoder = of_type(kind)
    found = verdict(**paths(tmp_path, transformers, encoder, vae))
    assert found.opened, found.log[-2000:]
    assert "Version: Ideogram 4" in found.log and "model metadata validated" in found.log and "using uncond model" in found.log
    both = Counter(record.dtype.lower() for branch in BRANCHES for record in records(transformers, branch))
    assert found.types("Diffusion model") == both
    assert found.types("Conditioner") == Counter(record.dtype.lower() for record in records(encoder, "text_encoder"))


@pytest.mark.parametrize("part", ["diffusion_model_path", "uncond_diffusion_model_path", "llm_path"])
def test_a_tensor_of_another_name_is_refused_by_it(tmp_path: Path, vae: Path, part: str):
    """So that an opened file means that every name was looked for."""
    files = paths(tmp_path, *of_type("q8_0"), vae)
    old, new = (
        (b"blk.3.ffn_up.weight", b"blk.3.ffn_xx.weight") if part == "llm_path" else (b"s.3.attention.o.w", b"s.3.attention.x.w")
    )
    with files[part].open("r+b") as file:
        head = file.read(1 << 20)
        assert head.count(old) == 1
        file.seek(head.index(old))
        file.write(new)
    found = verdict(**files)
    assert not found.opened and "not in model metadata" in found.log and "validation failed" in found.log
    assert ("layers.3.mlp.up_proj.weight" if part == "llm_path" else "layers.3.attention.o.weight") in found.log


def test_shards_are_refused(tmp_path: Path, vae: Path):
    """What cards say of `--split-size`."""
    transformers, encoder = of_type("q4_k_s")
    files = paths(tmp_path, transformers, encoder, vae)
    files["diffusion_model_path"] = write_part(tmp_path, transformers, "conditional", Packaging(split_bytes=2_000_000_000))
    assert files["diffusion_model_path"].name.startswith("ideogram4-Q4_K_S-00001-of-")
    assert not verdict(**files).opened


def test_int8_needs_another_ggml(tmp_path: Path, vae: Path):
    """What cards say of INT8: this build has upstream ggml, and says that it cannot."""
    _, encoder = of_type("q8_0")
    found = verdict(**paths(tmp_path, choose("int8", IDEOGRAM4), encoder, vae))
    assert "Using upstream GGML: INT8 tensorwise/convrot is disabled" in found.log
    assert not found.opened
