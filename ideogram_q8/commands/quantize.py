"""`quantize SOURCE --scheme int8 --out DIR`: a checkpoint in, an artifact out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import BAR_DELAY, add_component, add_device, add_overwrite, add_source, open_component
from ideogram_q8.devices import check_device
from ideogram_q8.errors import RequestError

if TYPE_CHECKING:
    from ideogram_q8.components import Dimensions
    from ideogram_q8.recipe import Recipe

SCHEMES = ("int8", "q8_0", "q4_k")
"""Those of `ideogram_q8.recipe`, written out because it imports torch."""
_EPILOG = "A run that was stopped goes on where it was when the same command is given again."


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("quantize", help="build an INT8 or GGUF artifact from a checkpoint", epilog=_EPILOG)
    add_source(parser)
    add_component(parser)
    add_recipe(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write; made if missing")
    add_overwrite(parser, "an artifact")
    add_device(parser, "the arithmetic runs; the files are the same")
    parser.set_defaults(verb=run)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """`--scheme` or `--recipe`; `choose_recipe` reads them."""
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--scheme", choices=SCHEMES, help="number format of the weights, the same rule for all layers")
    how.add_argument("--recipe", type=Path, metavar="FILE", help="a recipe.json that `recipe make` wrote")


def choose_recipe(arguments: argparse.Namespace, config: Dimensions) -> Recipe:
    """Raises RequestError or ArtifactError: see `read_recipe`."""
    from ideogram_q8.recipe import choose

    return choose(arguments.scheme, config) if arguments.recipe is None else read_recipe(arguments.recipe)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    device = check_device(arguments.device)

    from tqdm import tqdm

    from ideogram_q8.quantization import Progress, quantize

    source = open_component(arguments)
    recipe = choose_recipe(arguments, source.config)
    with tqdm(unit="B", unit_scale=True, desc=recipe.variant, delay=BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            if not bar.n:  # what an earlier run did says nothing about the rate of this one
                bar.initial = bar.n = progress.resumed_bytes
            bar.update(progress.done_bytes - bar.n)

        manifest = quantize(source, recipe, arguments.out, device=device, on_progress=show, overwrite=arguments.overwrite)
    size = sum(file.size for file in manifest.files)
    print(f"{arguments.out}: {manifest.variant}, {size:,} bytes in {len(manifest.files)} files, {manifest.artifact_sha256}")


def read_recipe(path: Path) -> Recipe:
    """Raises RequestError: no readable file; ArtifactError: not a recipe."""
    from ideogram_q8.recipe import MAX_CHARACTERS, Recipe

    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {error}; expected a recipe.json that `recipe make` wrote") from None
    if len(text) > MAX_CHARACTERS:
        raise RequestError(f"{path} is longer than a recipe can be; expected a recipe.json that `recipe make` wrote")
    return Recipe.from_json(text)
