"""`bench quantize`: how fast quantizing is here, and what the disk and memory would allow."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.bench_output import add_output, check_output, tell
from ideogram_q8.commands.options import add_device, add_source, open_source
from ideogram_q8.commands.quantize import add_recipe, choose_recipe
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine.devices import check_device
from ideogram_q8.machine.terminal import say

if TYPE_CHECKING:
    from ideogram_q8.bench.encoders import EncoderRate
    from ideogram_q8.bench.quantizing import QuantizingRun


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the action."""
    parser = actions.add_parser("quantize", help="against a plain copy of the source, and one pass over memory")
    add_source(parser)
    add_recipe(parser)
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", default=Path(), help="where to write, for a while (default: the current folder)"
    )
    parser.add_argument(
        "--ggml",
        type=Path,
        metavar="FILE",
        help="GGUF: ggml's library to compare with (default: llama-cpp-python's, if installed)",
    )
    add_device(parser, "the arithmetic runs")
    add_output(parser)
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    from ideogram_q8.bench.quantizing import measure

    source = open_source(arguments)
    recipe, importance = choose_recipe(arguments, source)
    found = measure(
        source,
        recipe,
        arguments.folder,
        device=device,
        importance=importance,
        ggml_library=arguments.ggml,
        on_rate=lambda what, rate: say(f"{what}: {rate:.3f} GB/s", to="err"),
    )
    tell(arguments, quantizing_table(found), json.dumps(asdict(found), ensure_ascii=False))


def _encoder_line(rate: EncoderRate) -> str:
    label = f"encode {rate.type}{', weighted' if rate.weighted else ''}"
    beside = rate.note if rate.ggml is None else f"ggml's C {rate.ggml / 1e6:.1f}: ours is {rate.ours / rate.ggml:.2f} of it"
    return f"{label:<24}{rate.ours / 1e6:8.1f} M/s    weights a core; {beside}"


def quantizing_table(found: QuantizingRun) -> str:
    """The figures for people; a rate is GB (10^9 bytes) of source a second."""
    rows = [
        (
            f"quantize to {found.variant}",
            found.quantize_rate,
            f"{found.seconds:.1f} s, {gigabytes(found.peak_bytes, '.2f')} at most",
        ),
        ("copy of the source", found.copy_rate, f"quantize reaches {found.share_of_copy:.0%} of it"),
        ("one pass over memory", found.memory_rate, f"quantize reaches {found.share_of_memory:.1%} of it"),
    ]
    lines = [f"{label:<24}{rate:8.3f} GB/s   {note}" for label, rate, note in rows]
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    amounts = f"{gigabytes(found.source_bytes, '.2f')} read, {gigabytes(found.written_bytes, '.2f')} written"
    machine = f"{found.processor}, {found.cores} cores, {found.system}; {versions}"
    lines += [_encoder_line(rate) for rate in found.encoders]
    return "\n".join([f"{amounts}; the source in the system's cache: {found.source_cache}", *lines, machine])
