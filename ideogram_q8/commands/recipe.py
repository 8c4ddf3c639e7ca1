"""`recipe make` and `recipe explain`: what each Linear gets, and why."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import (
    BAR_DELAY,
    add_component,
    add_device,
    add_overwrite,
    add_source,
    check_new_file,
    open_component,
)
from ideogram_q8.commands.quantize import read_recipe
from ideogram_q8.errors import RequestError
from ideogram_q8.formats import whole_file
from ideogram_q8.machine.devices import check_device
from ideogram_q8.machine.terminal import say, say_text

if TYPE_CHECKING:
    from ideogram_q8.recipes import Recipe
    from ideogram_q8.recipes.statistics import Statistics
    from ideogram_q8.sources import Checkpoint

POLICIES = ("naive", "paper", "convrot", "auto", "gguf")
MEASURED = ("paper", "auto", "gguf")
"""Those that need statistics."""
_OPTIONS = {
    "alpha": ("paper",),
    "protect": ("paper",),
    "target_size": ("auto", "gguf"),
    "no_rotation": ("auto",),
    "weight_only": ("auto",),
}
"""Which policies an option is for."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("recipe", help="make a recipe, or say what one does to each layer, and why")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    make = actions.add_parser("make", help="choose what every layer gets")
    add_source(make)
    add_component(make)
    make.add_argument("--policy", choices=POLICIES, required=True, help="paper, auto and gguf need --stats")
    make.add_argument("--stats", type=Path, metavar="FILE", help="what `calibrate` wrote for this source")
    make.add_argument("--out", type=Path, metavar="FILE", required=True, help="the recipe to write, NAME.json")
    make.add_argument("--alpha", type=float, metavar="A", help="paper: share of the difficulty for the weights (default 0.5)")
    make.add_argument(
        "--protect", type=int, metavar="N", help="paper: layers per branch that stay bfloat16 (default 17 of 34 blocks)"
    )
    make.add_argument(
        "--target-size",
        type=float,
        metavar="GB",
        help="auto, gguf: bytes / 10^9 of both branches (default: the paper's, q4_k_m's)",
    )
    make.add_argument(
        "--no-rotation",
        action="store_true",
        default=None,
        help="auto: rotate nothing, for diffusers' folders, which cannot; ComfyUI and stable-diffusion.cpp can",
    )
    make.add_argument(
        "--weight-only",
        action="store_true",
        default=None,
        help="auto: modulation layers may be int8 weights alone, which ComfyUI and stable-diffusion.cpp compute as W8A8",
    )
    add_overwrite(make, "a recipe")
    add_device(make, "products are measured")
    make.set_defaults(verb=run_make)
    explain = actions.add_parser("explain", help="print a recipe as a table")
    explain.add_argument("recipe", type=Path, metavar="FILE", help="a recipe.json")
    explain.set_defaults(verb=run_explain)


def run_make(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    _check(arguments)
    device = check_device(arguments.device)

    from ideogram_q8.policies.measurement import stored_bytes

    source = open_component(arguments)
    recipe = _make(arguments, source, device)
    _write(arguments.out, recipe.to_json())
    say(f"{arguments.out}: {recipe.variant}, {stored_bytes(recipe, source):,} bytes of tensors, sha256 {recipe.sha256}")


def _write(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all. Raises ResourceError."""
    from ideogram_q8.builds.folder import disk_errors

    with disk_errors(path):
        whole_file.write_text(path, text)


def _check(arguments: argparse.Namespace) -> None:
    policy = arguments.policy
    if policy == "gguf" and arguments.component == "text_encoder":
        raise RequestError(f"--policy {policy} is for the transformers; for a text encoder expected another policy")
    if policy in MEASURED and arguments.stats is None:
        raise RequestError(f"--policy {policy} looks at what goes into the layers; give --stats FILE, which `calibrate` writes")
    for name, policies in _OPTIONS.items():
        if getattr(arguments, name) is not None and policy not in policies:
            raise RequestError(f"--{name.replace('_', '-')} is for --policy {' or '.join(policies)}, not {policy}")
    if arguments.target_size is not None and not 0 < arguments.target_size < float("inf"):
        raise RequestError(f"--target-size is {arguments.target_size}; expected gigabytes, for example 20.5")
    if policy not in MEASURED and arguments.stats is not None:
        raise RequestError(f"--policy {policy} looks at no statistics; leave --stats out")
    check_new_file(arguments.out, ".json", overwrite=arguments.overwrite)


def _make(arguments: argparse.Namespace, source: Checkpoint, device: str) -> Recipe:
    from ideogram_q8.formats.manifest import sha256_of
    from ideogram_q8.policies.convrot import convrot
    from ideogram_q8.policies.measurement import check_statistics
    from ideogram_q8.policies.paper import ALPHA, paper
    from ideogram_q8.recipes import choose
    from ideogram_q8.recipes.statistics import read

    if arguments.policy == "naive":
        return choose("int8", source.config)
    if arguments.policy == "convrot":
        return convrot(source.config)
    statistics = read(arguments.stats)
    check_statistics(statistics, source)
    if arguments.policy in ("auto", "gguf"):
        recipe = _under_budget(arguments, statistics, source, device)
    else:
        alpha = ALPHA if arguments.alpha is None else arguments.alpha
        recipe = paper(statistics, source, alpha, arguments.protect)
    return replace(recipe, stats_sha256=sha256_of(arguments.stats))


def _under_budget(arguments: argparse.Namespace, statistics: Statistics, source: Checkpoint, device: str) -> Recipe:
    from tqdm import tqdm

    from ideogram_q8.formats.manifest import sha256_of
    from ideogram_q8.policies.auto import auto
    from ideogram_q8.policies.gguf import gguf
    from ideogram_q8.recipes.importance import Importance
    from ideogram_q8.sources import Source

    budget = None if arguments.target_size is None else round(arguments.target_size * 1e9)
    with tqdm(desc="measuring", unit="group", delay=BAR_DELAY) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        if arguments.policy == "auto":
            rotate, weight_only = not arguments.no_rotation, bool(arguments.weight_only)
            return auto(statistics, source, budget, rotate=rotate, weight_only=weight_only, device=device, on_progress=show)
        assert isinstance(source, Source)
        return gguf(Importance(statistics, sha256_of(arguments.stats)), source, budget, device=device, on_progress=show)


def run_explain(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from ideogram_q8.recipes.table import explain

    say_text(explain(read_recipe(arguments.recipe)))
