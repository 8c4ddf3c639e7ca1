"""`quantize SOURCE --scheme int8 --out DIR`: a checkpoint in, an artifact out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import BAR_DELAY, SOURCE_HELP
from ideogram_q8.errors import RequestError

if TYPE_CHECKING:
    from ideogram_q8.architecture import TransformerConfig
    from ideogram_q8.recipe import Recipe

SCHEMES = ("int8", "q8_0", "q4_k")
"""Those of `ideogram_q8.recipe`, written out because it imports torch."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("quantize", help="build an INT8 or GGUF artifact from a checkpoint")
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--scheme", choices=SCHEMES, help="number format of the weights, the same rule for all layers")
    how.add_argument("--recipe", type=Path, metavar="FILE", help="a recipe.json that `recipe make` wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write; made if missing")
    parser.add_argument("--overwrite", action="store_true", help="replace an artifact that is already there")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from tqdm import tqdm

    from ideogram_q8.checkpoint import open_source
    from ideogram_q8.quantization import Progress, quantize

    source = open_source(arguments.source)
    recipe = _recipe(arguments, source.config)
    with tqdm(unit="B", unit_scale=True, desc=recipe.variant, delay=BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            bar.update(progress.done_bytes - bar.n)

        manifest = quantize(source, recipe, arguments.out, on_progress=show, overwrite=arguments.overwrite)
    size = sum(file.size for file in manifest.files)
    print(f"{arguments.out}: {manifest.variant}, {size:,} bytes in {len(manifest.files)} files, {manifest.artifact_sha256}")


def _recipe(arguments: argparse.Namespace, config: TransformerConfig) -> Recipe:
    from ideogram_q8.recipe import choose

    return choose(arguments.scheme, config) if arguments.recipe is None else read_recipe(arguments.recipe)


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
