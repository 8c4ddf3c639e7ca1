"""Options and refusals that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from ideogram_q8.components import COMPONENTS
from ideogram_q8.devices import DEVICES
from ideogram_q8.errors import RequestError

BAR_DELAY = 0.01
"""Seconds before a progress bar shows: what is refused at once shows none."""
SOURCE_HELP = "`pocket`, a checkpoint folder or file, or a Hub id org/name"


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are errors like all others: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see {self.prog} --help")


def add_device(parser: argparse.ArgumentParser, purpose: str) -> None:
    """`--device cpu|cuda`."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help=f"where {purpose} (default cpu)")


def add_component(parser: argparse.ArgumentParser) -> None:
    """`--component transformers|text_encoder`."""
    parser.add_argument(
        "--component", choices=COMPONENTS, default=COMPONENTS[0], help=f"which part of the checkpoint (default {COMPONENTS[0]})"
    )


def check_new_file(path: Path, suffix: str, option: str = "--out") -> None:
    """Raises RequestError unless `path` can name a new file of this kind."""
    if path.suffix.lower() != suffix or path.is_dir():
        raise RequestError(f"{option} is {path}; expected a file name that ends with {suffix}")
    if not path.parent.is_dir():
        raise RequestError(f"{option} is {path}, but there is no folder {path.parent}; make it or choose another place")
