"""`ablate SOURCE --stats FILE --out DIR`: what smoothing, protection, rotation and a budget are worth on a model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ideogram_q8.commands.options import add_device, add_overwrite, add_source, open_source
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import check_device
from ideogram_q8.machine.terminal import say, say_text
from ideogram_q8.model.architecture import PRESETS

CAPTIONS = 16
PRESET = "turbo-12"
FILES = ("ablation.json", "ablation.md", "ablation.png")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("ablate", help="measure what each part of a recipe is worth")
    add_source(parser)
    parser.add_argument("--stats", type=Path, metavar="FILE", required=True, help="what `calibrate` wrote for this source")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help=f"folder for {', '.join(FILES)}; made if missing"
    )
    parser.add_argument("--captions", type=int, default=CAPTIONS, metavar="N", help=f"captions to paint (default {CAPTIONS})")
    parser.add_argument("--preset", choices=list(PRESETS), default=PRESET, help=f"default {PRESET}")
    parser.add_argument("--gguf", action="store_true", help="GGUF presets with and without importance, instead of INT8 recipes")
    add_overwrite(parser, "an ablation")
    add_device(parser, "products are computed and pictures painted")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    if arguments.captions < 1:
        raise RequestError(f"--captions is {arguments.captions}; expected at least 1")
    device = check_device(arguments.device)

    from ideogram_q8.builds.folder import check_target, disk_errors, new_folder, write_text
    from ideogram_q8.captions.suite import get
    from ideogram_q8.formats.manifest import sha256_of
    from ideogram_q8.recipes.statistics import read
    from ideogram_q8.studies import ablation, ablation_page, importance

    check_target(arguments.out, FILES, arguments.overwrite)
    source, statistics = open_source(arguments), read(arguments.stats)
    suite = get("pocket").first(arguments.captions)
    ablate, markdown = (importance.ablate, importance.markdown) if arguments.gguf else (ablation.ablate, ablation_page.markdown)
    found = ablate(
        source,
        statistics,
        sha256_of(arguments.stats),
        suite,
        arguments.preset,
        device=device,
        on_progress=say,
    )
    page = markdown(found)
    say_text(f"\n{page}")
    with new_folder(arguments.out, FILES, arguments.overwrite) as folder:
        write_text(folder / "ablation.json", found.to_json())
        write_text(folder / "ablation.md", page)
        with disk_errors(arguments.out), (folder / "ablation.png").open("wb") as file:
            ablation_page.chart(found).save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())
