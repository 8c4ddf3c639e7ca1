"""`convert ARTIFACT --to diffusers|single --out DIR`: an int8 artifact in its other form, without loss."""

from __future__ import annotations

import argparse
from pathlib import Path

from ideogram_q8.commands.options import BAR_DELAY, add_overwrite
from ideogram_q8.machine.terminal import say

FORMS = ("diffusers", "single")
"""Those of `ideogram_q8.builds.forms`, written out because it imports torch."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("convert", help="turn INT8 single files into diffusers' folders, or back")
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="a folder that quantize or convert wrote")
    parser.add_argument("--to", choices=FORMS, required=True, help="diffusers: with torchao; single: for ComfyUI")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write; made if missing")
    add_overwrite(parser, "an artifact")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from tqdm import tqdm

    from ideogram_q8.builds.conversion import convert
    from ideogram_q8.builds.quantization import Progress

    with tqdm(unit="B", unit_scale=True, desc=arguments.to, delay=BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            bar.update(progress.done_bytes - bar.n)

        manifest = convert(arguments.artifact, arguments.to, arguments.out, on_progress=show, overwrite=arguments.overwrite)
    size = sum(file.size for file in manifest.files)
    say(f"{arguments.out}: {manifest.variant}, {size:,} bytes in {len(manifest.files)} files, {manifest.artifact_sha256}")
