"""What is predicted for a processor, and what is computed on it, on processors that this one can play.

oneDNN and torch's own loops can be held to older instruction sets before they start, so a child process is a machine without AVX512-VNNI,
or without AVX512 (oneDNN, "CPU Dispatcher Control"; PyTorch, "ATEN_CPU_CAPABILITY"). Under the first cap `torch._int_mm` would saturate,
so the tests run there because `kernels.cpu` refuses it.

Not predicted: steps in bfloat16 under AVX512 without its bfloat16 instructions, whose products torch computes in another way. Measured
with the FP8 pocket, 296 tokens: 3.9 MB of activations, predicted 2.9 MB (6.5 % of all with the weights).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
TESTS = ("tests/runtime/memory/test_budget.py", "tests/runtime/kernels/test_int8.py", "tests/runtime/layers")
SECONDS = 600
NOT_PREDICTED = "test_a_step_peaks_where_it_was_predicted and bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("onednn", "aten", "needed", "left_out"),
    [("AVX512_CORE", "avx512", ("AVX512",), NOT_PREDICTED), ("AVX2", "avx2", ("AVX512", "AVX2"), "")],
)
def test_the_same_holds_on_an_older_processor(onednn: str, aten: str, needed: tuple[str, ...], left_out: str) -> None:
    found = torch.backends.cpu.get_cpu_capability()
    if found not in needed:
        pytest.skip(f"this processor has {found}; needs {' or '.join(needed)}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            f"not ({left_out})" if left_out else "",
            *TESTS,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert child.returncode == 0, child.stdout
