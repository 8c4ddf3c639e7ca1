"""`bench tune`: which back end computes each W8A8 product fastest on this machine, and whether both branches at once are faster.

Loading a model follows what was found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import add_device
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import DTYPES, check_device, default_dtype
from ideogram_q8.machine.terminal import say, say_json, say_text
from ideogram_q8.model.architecture import IDEOGRAM4, IDEOGRAM4_TRAITS, MAX_TEXT_TOKENS, SIDE_MULTIPLE, check_size, parse_size

if TYPE_CHECKING:
    from ideogram_q8.bench.picture.overlapping import Setting
    from ideogram_q8.runtime.kernels import Problem
    from ideogram_q8.runtime.kernels.choosing.table import Overlap, TimedEntry

ROTATIONS = (0, 256)
"""Groups of inputs that recipes rotate by; 0 is none."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the action."""
    parser = actions.add_parser(
        "tune",
        help="find the fastest back end for every W8A8 product, and on CUDA whether both branches at once are faster; "
        "keep the choice for all that runs here",
    )
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="a model whose products are measured (default: Ideogram 4's)"
    )
    parser.add_argument("--size", metavar="WxH", help="pixels (default: the model's own)")
    parser.add_argument("--text-tokens", type=int, metavar="N", default=512, help="of the caption (default 512)")
    add_device(parser, "products are computed")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each back end of each product, about (default 0.2)")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    if not 1 <= arguments.text_tokens <= MAX_TEXT_TOKENS:
        raise RequestError(f"--text-tokens is {arguments.text_tokens}; expected 1 to {MAX_TEXT_TOKENS}")
    if not 0 < arguments.seconds <= 60:
        raise RequestError(f"--seconds is {arguments.seconds}; expected more than 0, at most 60")
    size = None if arguments.size is None else parse_size(arguments.size)
    device = check_device(arguments.device)

    import torch

    from ideogram_q8.bench.picture.overlapping import Setting
    from ideogram_q8.builds.opening import open_weights
    from ideogram_q8.runtime.kernels import block_products
    from ideogram_q8.runtime.kernels.choosing import table
    from ideogram_q8.runtime.kernels.choosing.tuning import tune
    from ideogram_q8.runtime.loading.planning import describe

    config, traits = IDEOGRAM4, IDEOGRAM4_TRAITS
    if arguments.source is not None:
        opened = open_weights(arguments.source)
        config, traits = describe(opened, torch.float32).config, opened.traits
    width, height = size or traits.default_size
    check_size(width, height, traits)
    image = width * height // SIDE_MULTIPLE**2
    dtype = getattr(torch, arguments.dtype or default_dtype(device))
    buckets = sorted({table.bucket(image), table.bucket(image + arguments.text_tokens)})
    products = {
        product.problem: product.name
        for rows in buckets
        for rotation in ROTATIONS
        if not rotation or not (config.hidden_size % rotation or config.intermediate_size % rotation)
        for product in block_products(config, rows, device, dtype, rotation)
    }
    entries = []
    for problem, name in products.items():  # one at a time: each is kept before the next one is measured
        (entry,) = tune([problem], arguments.seconds)
        say(line(name, problem, entry))
        entries.append(entry)
    place = torch.device(next(iter(products)).device)
    overlaps = []
    for overlap in _overlaps(Setting(config, (width, height), arguments.text_tokens, place, dtype), arguments.seconds):
        table.write(place, (), (overlap,))
        overlaps.append(overlap)
    say_text(table.note(place))
    measured = {"machine": table.machine(place), "entries": entries, "overlaps": overlaps}
    say_json(json.dumps(measured, ensure_ascii=False, default=asdict))


def _overlaps(setting: Setting, seconds: float) -> Iterator[Overlap]:
    """Both branches of every variant, back to back and at once, said as they come; none on a device without streams."""
    from ideogram_q8.bench.picture import overlapping
    from ideogram_q8.machine.out_of_memory import lacks_memory
    from ideogram_q8.runtime.generation.denoising import side_of

    side = side_of(setting.device)
    if side is None:
        return
    for way in overlapping.WAYS:
        try:
            found = overlapping.measure(way, setting, side, seconds)
        except Exception as error:
            if not lacks_memory(error):
                raise
            say(f"both branches, {way}: no room to measure them at once")
            continue
        apart, overlapped = 1e3 * found.apart, 1e3 * found.overlapped
        say(
            f"{overlapping.BLOCKS} blocks of both branches, {way}: back to back {apart:,.2f} ms, overlapped {overlapped:,.2f} ms"
        )
        yield found


def line(name: str, problem: Problem, entry: TimedEntry) -> str:
    """One product for people: every back end's microseconds, the fastest first."""
    times = sorted(entry.seconds.items(), key=lambda item: item[1])
    tiles = f" ({entry.tiles})" if entry.tiles is not None else ""
    shown = ", ".join(f"{each}{tiles if each == 'Triton' else ''} {1e6 * seconds:,.0f} us" for each, seconds in times)
    rotated = ", rotated" if problem.rotation else ""
    return f"{name:<20} {problem.rows:>6} x {problem.inputs} -> {problem.outputs}{rotated}: {shown}"
