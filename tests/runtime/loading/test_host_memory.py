"""Weights go from file to device a tensor at a time: at Ideogram 4's full size the host never needs 3 GB for them.

The files have all layers, a transformer's 34 and the text encoder's 36, are zeros where values do not matter, and take no disk; the
device reads what moves to it, as a GPU's driver does, and keeps none. Each load has a process of its own, whose largest resident size
counts, pages of mapped files included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ideogram_q8.builds import layout
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, IDEOGRAM4
from ideogram_q8.model.components import Dimensions
from ideogram_q8.recipes import choose
from tests import full_size
from tests.text_encoders import QWEN3_VL_8B

pytestmark = pytest.mark.slow

LIMIT = 3_000_000_000
PROGRAM = """
import sys, torch
from pathlib import Path
from torch.utils._python_dispatch import TorchDispatchMode
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.builds.gguf_build import open_transformers
from ideogram_q8.builds.reader import ArtifactBranch
from ideogram_q8.builds import layout
from ideogram_q8.sources import open_source, open_text_encoder
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.loading import networks
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.runtime.memory import usage
from ideogram_q8.recipes import choose

class KeepsNothing(TorchDispatchMode):
    moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        there = kwargs and kwargs.get("device") == torch.device("meta")
        if there and func is torch.ops.aten._to_copy.default and not args[0].is_meta:
            self.moved += args[0].nbytes
            args[0].contiguous().flatten().view(torch.uint8)[::4096].sum()
        return func(*args, **(kwargs or {}))

def reader(kind, place):
    if kind == "fp8":
        return SourceWeights(open_source(place, as_given=True).branch("conditional"))
    if kind == "int8":
        recipe = choose(kind, IDEOGRAM4)
        stored = layout.stored_tensors(IDEOGRAM4, recipe, "conditional")
        return ArtifactBranch(Path(place), recipe, stored, {layout.BRANCH_KEY: "conditional"})
    return open_transformers(Path(place)).branch("conditional")

def build(kind, place):
    if kind == "text_encoder":
        source = open_text_encoder(place)
        weights, config, of = source.branch("text_encoder"), source.config, networks.build_text_encoder
        return lambda device: of(SourceWeights(weights), config, device, torch.bfloat16)
    weights = reader(kind, place)
    return lambda device: networks.build_transformer(weights, IDEOGRAM4, device, torch.bfloat16)

cpu = torch.device("cpu")
torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
networks._require_filled = lambda *_: None  # this device's tensors hold nothing
fusing._neighbours = lambda _: False  # and have no addresses
load = build(*sys.argv[1:])
before = usage.host_bytes()[2]
usage.reset_peak(cpu)
with KeepsNothing() as device:
    load(torch.device("meta"))
print(device.moved, usage.peak_bytes(cpu) - before)
"""


def _write_source(folder: Path) -> Path:
    """Both transformers in the official FP8 layout."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Ideogram4Pipeline"}))
    for branch in BRANCHES:
        _write_fp8(folder / COMPONENT_FOLDERS[branch], IDEOGRAM4)
    return folder


def _write_encoder(folder: Path) -> Path:
    """The text encoder in that layout, its vision tower too, which is not loaded."""
    _write_fp8(folder / COMPONENT_FOLDERS["text_encoder"], QWEN3_VL_8B, "model.safetensors")
    return folder


def _write_fp8(part: Path, config: Dimensions, name: str = full_size.FILE) -> None:
    """Scales, which must be positive, come first in the data."""
    scales = sum(entry.bytes for entry in full_size.entries(config) if entry.dtype == "F32")
    part.mkdir(parents=True)
    (part / "config.json").write_text(json.dumps(config.to_json()))
    (part / name).write_bytes(full_size.header(config) + np.ones(scales // 4, np.float32).tobytes())
    os.truncate(part / name, full_size.file_bytes(config))


def _write_build(folder: Path, scheme: str) -> Path:
    """Both branches as `quantize` lays them out; the conditional one's file."""
    recipe = choose(scheme, IDEOGRAM4)
    files = []
    folder.mkdir()
    for branch in BRANCHES:
        records = [r for found in layout.stored_tensors(IDEOGRAM4, recipe, branch).values() for r in found]
        (planned,) = layout.plan_files(recipe, branch, records, {layout.BRANCH_KEY: branch}, layout.Packaging())
        files.append(folder / planned.name)
        files[-1].write_bytes(planned.placement.header)
        os.truncate(files[-1], planned.placement.size)
        with files[-1].open("r+b") as file:
            for plan in recipe.parts[branch].layers:
                if (at := planned.placement.offsets.get(f"{plan.linear}.comfy_quant")) is not None:
                    file.seek(at)
                    file.write(layout.comfy_quant(plan))
    return files[BRANCHES.index("conditional")]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc")
@pytest.mark.parametrize(("kind", "least_moved"), [("fp8", 9.2e9), ("int8", 9.2e9), ("q4_k_s", 5.2e9), ("text_encoder", 8.1e9)])
def test_the_host_needs_less_than_3_gb_to_load_the_full_size(tmp_path: Path, kind: str, least_moved: float) -> None:
    write = {"fp8": _write_source, "text_encoder": _write_encoder}.get(kind, partial(_write_build, scheme=kind))
    place = write(tmp_path / "files")
    command = [sys.executable, "-c", PROGRAM, kind, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    moved, peak = map(int, done.stdout.split())
    print(f"{kind}: {moved / 1e9:.2f} GB moved, {peak / 1e9:.2f} GB at most on the way")
    assert moved > least_moved
    assert peak < LIMIT
