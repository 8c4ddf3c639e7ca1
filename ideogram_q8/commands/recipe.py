"""`recipe make` and `recipe explain`: what each Linear gets, and why."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
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
from ideogram_q8.model.dotted import function_at
from ideogram_q8.recipes.policies import POLICIES, Policy

if TYPE_CHECKING:
    from ideogram_q8.policies.measurement import OnProgress
    from ideogram_q8.recipes import Recipe
    from ideogram_q8.sources import Checkpoint


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("recipe", help="make a recipe, or say what one does to each layer, and why")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    make = actions.add_parser("make", help="choose what every layer gets")
    add_source(make)
    add_component(make)
    make.add_argument("--policy", choices=tuple(POLICIES), required=True, help=_policies_help())
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


def _policies_help() -> str:
    """Every policy in a few words, and which need statistics."""
    *first, last = (policy.name for policy in POLICIES.values() if policy.needs_statistics)
    words = "; ".join(f"{policy.name}: {policy.help}" for policy in POLICIES.values())
    return f"{words}. {', '.join(first)} and {last} need --stats"


def run_make(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    _check(arguments)
    device = check_device(arguments.device)

    from ideogram_q8.policies.measurement import stored_bytes

    source = open_component(arguments)
    recipe = _make(arguments, POLICIES[arguments.policy], source, device).only(source.parts)
    _write(arguments.out, recipe.to_json())
    say(f"{arguments.out}: {recipe.variant}, {stored_bytes(recipe, source):,} bytes of tensors, sha256 {recipe.sha256}")


def _write(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all. Raises ResourceError."""
    from ideogram_q8.builds.folder import disk_errors

    with disk_errors(path):
        whole_file.write_text(path, text)


def _check(arguments: argparse.Namespace) -> None:
    policy, row = arguments.policy, POLICIES[arguments.policy]
    if not row.makes_text_encoders and arguments.component == "text_encoder":
        raise RequestError(f"--policy {policy} is for the transformers; for a text encoder expected another policy")
    if row.needs_statistics and arguments.stats is None:
        raise RequestError(f"--policy {policy} looks at what goes into the layers; give --stats FILE, which `calibrate` writes")
    for name in dict.fromkeys(name for other in POLICIES.values() for name in other.options):
        if getattr(arguments, name) is not None and name not in row.options:
            policies = [other.name for other in POLICIES.values() if name in other.options]
            raise RequestError(f"--{name.replace('_', '-')} is for --policy {' or '.join(policies)}, not {policy}")
    if arguments.target_size is not None and not 0 < arguments.target_size < float("inf"):
        raise RequestError(f"--target-size is {arguments.target_size}; expected gigabytes, for example 20.5")
    if not row.needs_statistics and arguments.stats is not None:
        raise RequestError(f"--policy {policy} looks at no statistics; leave --stats out")
    check_new_file(arguments.out, ".json", overwrite=arguments.overwrite)


def _make(arguments: argparse.Namespace, policy: Policy, source: Checkpoint, device: str) -> Recipe:
    from ideogram_q8.formats.manifest import sha256_of
    from ideogram_q8.policies.measurement import check_statistics
    from ideogram_q8.policies.request import PolicyRequest
    from ideogram_q8.recipes.statistics import read

    options = {name: getattr(arguments, name) for name in policy.options}
    make: Callable[[PolicyRequest], Recipe] = function_at("ideogram_q8.policies", policy.place)
    with _bar() as show:
        request = PolicyRequest(source, device=device, on_progress=show, **options)
        if not policy.needs_statistics:
            return make(request)
        statistics, digest = read(arguments.stats), sha256_of(arguments.stats)
        check_statistics(statistics, source)
        return replace(make(replace(request, measured=statistics, stats_sha256=digest)), stats_sha256=digest)


@contextlib.contextmanager
def _bar() -> Iterator[OnProgress]:
    """A bar for what is measured, there from the first measurement on."""
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        bars: list[tqdm] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(tqdm(desc="measuring", total=total, unit="group", delay=BAR_DELAY)))
            bars[0].update(done - bars[0].n)

        yield show


def run_explain(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from ideogram_q8.recipes.table import explain

    say_text(explain(read_recipe(arguments.recipe)))
