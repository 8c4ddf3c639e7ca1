"""Runs of `quantize` for tests: stopped, gone on with, and the files they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.builds.layout import Packaging
from ideogram_q8.builds.quantization import Progress, quantize
from ideogram_q8.recipes import choose

WHOLE = Packaging()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def begin(source, out: Path, scheme: str = "int8", packaging: Packaging = WHOLE) -> Path:
    """Stops a run after a branch and a half; returns its hidden folder."""

    def cancel(progress: Progress) -> None:
        if progress.done_bytes * 4 > progress.total_bytes * 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, choose(scheme, source.config), out, packaging=packaging, on_progress=cancel)
    return out.with_name(f".{out.name}.partial")


def resumed_bytes(source, out: Path, scheme: str = "int8", packaging: Packaging = WHOLE) -> int:
    seen: list[Progress] = []
    quantize(source, choose(scheme, source.config), out, packaging=packaging, on_progress=seen.append)
    return seen[-1].resumed_bytes
