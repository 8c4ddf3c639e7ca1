"""What is predicted for a processor, and what is computed on it, on processors that this one can play.

oneDNN and torch's own loops can be held to older instruction sets before they start, so a child process is a machine without AVX512-VNNI,
or without AVX512 (oneDNN, "CPU Dispatcher Control"; PyTorch, "ATEN_CPU_CAPABILITY"). Under the first cap `torch._int_mm` would saturate,
so the tests run there because `kernels.cpu` refuses it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TESTS = ("tests/memory/test_budget.py", "tests/kernels/test_int8.py", "tests/layers")
SECONDS = 600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("onednn", "aten", "needed"), [("AVX512_CORE", "avx512", ("AVX512",)), ("AVX2", "avx2", ("AVX512", "AVX2"))]
)
def test_the_same_holds_on_an_older_processor(onednn: str, aten: str, needed: tuple[str, ...]) -> None:
    found = torch.backends.cpu.get_cpu_capability()
    if found not in needed:
        pytest.skip(f"this processor has {found}; needs {' or '.join(needed)}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert child.returncode == 0, child.stdout
