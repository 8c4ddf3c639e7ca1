"""The page is there in seconds: what it takes is counted in processor seconds, which a busy machine does not change much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.ui.conftest import ROOT
from tests.ui.start import start

WAITS = ("diffusers", "transformers", "numba", "torchmetrics", "ideogram_q8.generation", "ideogram_q8.evaluation.metrics")
BUILD_A_PAGE = f"""
import inspect, sys
import app
from ideogram_q8.ui.gradio_import import import_gradio
getfile = inspect.getfile
import_gradio()
assert inspect.getfile is getfile
from ideogram_q8.ui.page import build_page
build_page(app.open_studio(app.parse(["--outputs", sys.argv[1]])))
print([name for name in {WAITS} if name in sys.modules])
"""


def test_from_the_command_to_the_first_byte(tmp_path: Path) -> None:
    _, processor_seconds = start(tmp_path)
    assert processor_seconds < 15


def test_what_paints_is_not_imported_before_the_page(tmp_path: Path) -> None:
    """The seconds that the page does not wait for."""
    command = [sys.executable, "-c", BUILD_A_PAGE, str(tmp_path / "outputs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
