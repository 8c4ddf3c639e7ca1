"""Options and refusals that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ideogram_q8.errors import RequestError

BAR_DELAY = 0.01
"""Seconds before a progress bar shows: what is refused at once shows none."""
DEVICES = ("cpu", "cuda")
SOURCE_HELP = "`pocket`, a checkpoint folder or file, or a Hub id org/name"


def add_device(parser: argparse.ArgumentParser, purpose: str) -> None:
    """`--device cpu|cuda`."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help=f"where {purpose} (default cpu)")


def check_device(name: str) -> str:
    """Raises RequestError: CUDA is asked for and not there."""
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise RequestError(f"--device cuda, but torch {torch.__version__} finds no CUDA device; use --device cpu")
    return name


def check_new_file(path: Path, suffix: str, option: str = "--out") -> None:
    """Raises RequestError unless `path` can name a new file of this kind."""
    if path.suffix.lower() != suffix or path.is_dir():
        raise RequestError(f"{option} is {path}; expected a file name that ends with {suffix}")
    if not path.parent.is_dir():
        raise RequestError(f"{option} is {path}, but there is no folder {path.parent}; make it or choose another place")
