"""Runs the laws of Triton programs in a process of their own: Triton decides between interpreter and compiler when it is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

pytest.importorskip("triton", reason="pip install triton (on Linux; tests/requirements.txt has it)")


@pytest.mark.parametrize(
    "interpret", ["1", pytest.param("0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]
)
def test_programs_obey_their_laws(interpret: str) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "TRITON_INTERPRET": interpret}
    laws = [str(here / name) for name in ("triton_laws.py", "triton_attention_laws.py", "triton_trial_laws.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *laws]
    run = subprocess.run(command, env=environment, cwd=here.parents[2], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert re.search(r"^[1-9]\d* passed in", run.stdout, re.MULTILINE), run.stdout[-2000:]
