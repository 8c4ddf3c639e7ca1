"""`quantize SOURCE --scheme int8 --out DIR`: a checkpoint in, an artifact out."""

from __future__ import annotations

import argparse
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import BAR_DELAY, add_component, add_device, add_overwrite, add_source, open_component
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.machine.devices import check_device
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.schemes import GGUF_SCHEMES, NAMED_SCHEMES

if TYPE_CHECKING:
    from ideogram_q8.builds.layout import Packaging
    from ideogram_q8.recipes import Recipe
    from ideogram_q8.recipes.importance import Importance
    from ideogram_q8.sources import Checkpoint

_EPILOG = "A run that was stopped goes on where it was when the same command is given again."
_SMALLEST_SPLIT = 1 << 20
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("quantize", help="build an INT8 or GGUF artifact from a checkpoint", epilog=_EPILOG)
    add_source(parser)
    add_component(parser)
    add_recipe(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write; made if missing")
    parser.add_argument(
        "--split-size", type=float, metavar="GB", help="GGUF: bytes / 10^9 of the largest file; shards as llama.cpp's"
    )
    parser.add_argument("--architecture", metavar="NAME", help="GGUF: general.architecture (default ideogram4)")
    add_overwrite(parser, "an artifact")
    add_device(parser, "the arithmetic runs; the files are the same")
    parser.set_defaults(verb=run)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """`--scheme` or `--recipe`, and what changes them; `choose_recipe` reads them."""
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--scheme", choices=NAMED_SCHEMES, help="number format of the weights, by the kind of layer")
    how.add_argument("--recipe", type=Path, metavar="FILE", help="a recipe.json that `recipe make` wrote")
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="PATTERN=TYPE",
        help="GGUF: type of the layers whose official names match, as layers.*.attention.o=q6_k; the last that matches counts",
    )
    parser.add_argument(
        "--importance",
        type=Path,
        metavar="FILE",
        help="GGUF: what `calibrate` wrote for this source; the search for scales weighs each input by its mean square",
    )


def choose_recipe(arguments: argparse.Namespace, source: Checkpoint) -> tuple[Recipe, Importance | None]:
    """What the options of `add_recipe` ask for; reads the statistics too.

    Raises:
        RequestError: a rule that does not fit, or importance that nothing can use; see also `read_recipe`.
        ArtifactError: the recipe or the statistics are damaged, or of another source.
    """
    from ideogram_q8.recipes import choose
    from ideogram_q8.recipes.rules import apply_rules, parse

    recipe = choose(arguments.scheme, source.config) if arguments.recipe is None else read_recipe(arguments.recipe)
    if arguments.rule:
        recipe = apply_rules(recipe, [parse(text) for text in arguments.rule], source.config)
    if arguments.importance is None:
        return recipe, None
    return _weighted(recipe, arguments.importance, source)


def _weighted(recipe: Recipe, path: Path, source: Checkpoint) -> tuple[Recipe, Importance]:
    from ideogram_q8.policies.measurement import check_statistics
    from ideogram_q8.recipes.importance import read_importance
    from ideogram_q8.recipes.rules import weigh

    if recipe.scheme not in GGUF_SCHEMES:
        raise RequestError(f"--importance is for GGUF, the scheme is {recipe.scheme}; leave it out")
    importance = read_importance(path)
    check_statistics(importance.statistics, source)
    return weigh(recipe, importance), importance


def choose_packaging(arguments: argparse.Namespace) -> Packaging:
    """Raises RequestError: a size or a name that no file can have."""
    from ideogram_q8.builds.layout import Packaging

    found = Packaging()
    if arguments.architecture is not None:
        if not _ARCHITECTURE.fullmatch(arguments.architecture):
            raise RequestError(
                f"--architecture is {arguments.architecture[:80]!r}; expected a short name in lower case, as ideogram4"
            )
        found = replace(found, architecture=arguments.architecture)
    if arguments.split_size is not None:
        if not _SMALLEST_SPLIT <= arguments.split_size * 1e9 < float("inf"):
            raise RequestError(f"--split-size is {arguments.split_size}; expected gigabytes, at least 0.0011, for example 2")
        found = replace(found, split_bytes=int(arguments.split_size * 1e9))
    return found


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    device = check_device(arguments.device)

    from tqdm import tqdm

    from ideogram_q8.builds.quantization import Progress, quantize

    source = open_component(arguments)
    recipe, importance = choose_recipe(arguments, source)
    packaging = choose_packaging(arguments)
    with tqdm(unit="B", unit_scale=True, desc=recipe.variant, delay=BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            if not bar.n:  # what an earlier run did says nothing about the rate of this one
                bar.initial = bar.n = progress.resumed_bytes
            bar.update(progress.done_bytes - bar.n)

        manifest = quantize(
            source,
            recipe,
            arguments.out,
            device=device,
            importance=importance,
            packaging=packaging,
            on_progress=show,
            overwrite=arguments.overwrite,
        )
    size = sum(file.size for file in manifest.files)
    say(f"{arguments.out}: {manifest.variant}, {size:,} bytes in {len(manifest.files)} files, {manifest.artifact_sha256}")


def read_recipe(path: Path) -> Recipe:
    """Raises RequestError: no readable file; ArtifactError, which names it: not a recipe."""
    from ideogram_q8.formats import file_kinds
    from ideogram_q8.recipes import MAX_CHARACTERS, Recipe

    try:
        with io.TextIOWrapper(file_kinds.open_regular(path), encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {error}; expected a recipe.json that `recipe make` wrote") from None
    if len(text) > MAX_CHARACTERS:
        raise RequestError(f"{path} is longer than a recipe can be; expected a recipe.json that `recipe make` wrote")
    try:
        return Recipe.from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
