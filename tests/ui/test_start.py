"""The page is there in seconds: what it takes is counted in processor seconds, which a busy machine does not change much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ui.conftest import ROOT
from tests.ui.start import start

pytestmark = pytest.mark.slow

WAITS = (
    "torch._C",
    "diffusers",
    "transformers",
    "numba",
    "torchmetrics",
    "ideogram_q8.runtime.generation.sampling",
    "ideogram_q8.measure.metrics",
)
BUILD_A_PAGE = f"""
import inspect, sys
from ideogram_q8.ui.imports import import_gradio, postpone
postpone("torch")
from ideogram_q8.commands import app
getfile = inspect.getfile
import_gradio()
assert inspect.getfile is getfile
from ideogram_q8.ui.page import build_page
build_page(app.open_studio(app.parse(["--device", "cpu", "--outputs", sys.argv[1]])))
print([name for name in {WAITS} if name in sys.modules])
"""
USE_TORCH = """
import sys, threading
from ideogram_q8.ui.imports import postpone
postpone("torch")
import torch
print("torch._C" in sys.modules)
found = []
threads = [threading.Thread(target=lambda: found.append(torch.ones(2).sum().item())) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(found == [2.0] * 4)
import torch.nn.functional
postpone("torch")
print(sys.modules["torch"] is torch)
print(type(torch).__name__)
"""


def test_from_the_command_to_the_first_byte(tmp_path: Path) -> None:
    _, processor_seconds = start(tmp_path)
    assert processor_seconds < 15


def test_a_postponed_module_is_the_module_itself_once_it_is_used() -> None:
    """Two threads that use it at once both find it whole."""
    done = subprocess.run([sys.executable, "-c", USE_TORCH], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "True", "True", "module"]


def test_what_paints_is_not_imported_before_the_page(tmp_path: Path) -> None:
    """The seconds that the page does not wait for."""
    command = [sys.executable, "-c", BUILD_A_PAGE, str(tmp_path / "outputs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
