"""Weights of a GGUF file stay packed and in the file: a loaded model takes no more memory than the files have bytes.

At Ideogram 4's full width, with one layer: a file of 0.74 GB that is all zeros and takes no disk, loaded by a process of its own.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ideogram_q8.builds import layout
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.recipes import choose

pytestmark = pytest.mark.slow

ONE_LAYER = dataclasses.replace(IDEOGRAM4, num_layers=1)
PROGRAM = """
import sys, torch
from pathlib import Path
from ideogram_q8.runtime.memory import usage
from ideogram_q8.builds.gguf_build import open_transformers
from ideogram_q8.runtime.loading.networks import build_transformer

cpu = torch.device("cpu")
torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
held = usage.host_bytes()[2]
usage.reset_peak(cpu)
build = open_transformers(Path(sys.argv[1]), Path(sys.argv[1]), as_given=True)
model = build_transformer(build.branch("conditional"), build.transformer_config, cpu, torch.bfloat16)
print(usage.peak_bytes(cpu) - held)
for tensor in (*model.parameters(), *model.buffers()):
    tensor.detach().view(-1).view(torch.uint8)[::4096].sum()
print(usage.peak_bytes(cpu) - held)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc")
def test_a_loaded_model_takes_what_its_file_has(tmp_path):
    recipe = choose("q4_k_s", ONE_LAYER)
    records = [r for found in layout.stored_tensors(ONE_LAYER, recipe, "conditional").values() for r in found]
    (planned,) = layout.plan_files(recipe, "conditional", records, {}, layout.Packaging())
    path, size = tmp_path / planned.name, planned.placement.size
    path.write_bytes(planned.placement.header)
    os.truncate(path, size)
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded, touched = map(int, done.stdout.split())
    assert loaded < 0.05 * size  # what is mapped is not read before it is used
    assert 0.9 * size < touched < 1.2 * size
