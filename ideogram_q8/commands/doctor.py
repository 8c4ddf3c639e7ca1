"""`doctor [VARIANT ...] [--size WxH]`: what fits on the device that is here and on cards of 8, 12, 16 and 24 GB, and how."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import add_rest
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.devices import TorchBuild, notes
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4_TRAITS, MAX_TEXT_TOKENS, SIDE_MULTIPLE, check_size, parse_size
from ideogram_q8.model.typed import as_typed

if TYPE_CHECKING:
    import torch

    from ideogram_q8.runtime.memory.budget import Footprint, Networks


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("doctor", help="say what fits on this device and on cards of 8, 12, 16 and 24 GB")
    parser.add_argument(
        "variants",
        metavar="VARIANT",
        nargs="*",
        help="fp8, nf4, int8, q8_0, q4_k_m, ... of Ideogram 4, which needs no file; or `pocket`, a checkpoint, an artifact (default: all)",
    )
    add_rest(parser, "VARIANT")
    parser.add_argument("--size", metavar="WxH", help="pixels (default: the model's own)")
    parser.add_argument(
        "--text-tokens",
        type=int,
        metavar="N",
        default=MAX_TEXT_TOKENS,
        help=f"of the caption (default {MAX_TEXT_TOKENS}, the most)",
    )
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    import torch

    from ideogram_q8.builds.opening import open_weights
    from ideogram_q8.runtime.loading.planning import describe
    from ideogram_q8.runtime.memory import inventory

    if not 1 <= arguments.text_tokens <= MAX_TEXT_TOKENS:
        raise RequestError(f"--text-tokens is {arguments.text_tokens}; expected 1 to {MAX_TEXT_TOKENS}")
    size = None if arguments.size is None else parse_size(arguments.size)
    build = TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip)
    told = notes(build) if torch.cuda.is_available() or machine.here.name == "macOS" else [f"no CUDA device: {build.advice()}"]
    for each in told:
        say(f"note: {each}")
    for given in arguments.variants or inventory.IDEOGRAM4_VARIANTS:
        name = given if Path(given).exists() else as_typed(given, inventory.IDEOGRAM4_VARIANTS)
        if name in inventory.IDEOGRAM4_VARIANTS:
            networks, traits = inventory.of_ideogram4(name), IDEOGRAM4_TRAITS
        else:
            opened = open_weights(name, source=arguments.rest)
            networks, traits = describe(opened, torch.bfloat16), opened.traits
        width, height = size or traits.default_size
        check_size(width, height, traits)
        say(*_report(name, networks, (width, height), arguments.text_tokens))


def _report(name: str, networks: Networks, size: tuple[int, int], text_tokens: int) -> Iterator[str]:
    import torch

    from ideogram_q8.runtime.kernels.choosing import table
    from ideogram_q8.runtime.memory import inventory, usage

    yield f"{name}, {size[0]}x{size[1]}, {str(networks.dtype).removeprefix('torch.')}, a caption of {text_tokens} tokens"
    here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    host = usage.pinnable_bytes() if here.type == "cuda" else sys.maxsize
    yield _line(f"this {here.type}", networks, size, text_tokens, usage.room(here), here.type, host)
    is_pair = len(networks.schemes) == len(BRANCHES)
    for card in usage.CARDS:
        yield _line(f"{card} GB card", networks, size, text_tokens, usage.room_of(card), "cuda")
    yield from _kernels(networks, size, text_tokens, here)
    if is_pair:
        yield f"  branches     {table.branches_note(here, inventory.pair(networks, size))}"
        yield from _without_guidance(networks, size, text_tokens)


def _without_guidance(networks: Networks, size: tuple[int, int], text_tokens: int) -> Iterator[str]:
    """What fits where only the conditional transformer is loaded, as `generate` does at guidance 1."""
    from ideogram_q8.runtime.memory import usage

    alone = replace(networks, schemes={"conditional": networks.schemes["conditional"]})
    for card in usage.CARDS:
        yield _line(f"{card} GB, guidance 1", alone, size, text_tokens, usage.room_of(card), "cuda")


def _kernels(networks: Networks, size: tuple[int, int], text_tokens: int, device: torch.device) -> Iterator[str]:
    """What computes here, and why what is preferred does not: norms, and where there are any, ggml's blocks and W8A8 products."""
    from ideogram_q8.numerics.ggml import BLOCKS
    from ideogram_q8.runtime.kernels import expansion_refusal, norms_refusal
    from ideogram_q8.runtime.kernels.attention import sdpa
    from ideogram_q8.runtime.memory import budget

    refusals = {"norms": norms_refusal(device, networks.config.hidden_size)}
    for block in sorted({scheme for schemes in networks.schemes.values() for scheme in schemes.values()} & BLOCKS.keys()):
        refusals[block] = expansion_refusal(block, device)
    for runs, names in _grouped((name, _triton_unless(reason)) for name, reason in refusals.items()):
        yield f"  here         {names}: {runs}"
    yield f"  here         attention: {sdpa.chosen_on(device, networks.dtype, networks.config.attention_head_dim)}"
    if budget.has_w8a8(networks):
        yield from _int8_kernels(networks, size, text_tokens, device)


def _int8_kernels(networks: Networks, size: tuple[int, int], text_tokens: int, device: torch.device) -> Iterator[str]:
    from ideogram_q8.runtime.kernels import block_products
    from ideogram_q8.runtime.kernels.attention import paths as attention
    from ideogram_q8.runtime.kernels.choosing import table

    rows = text_tokens + size[0] * size[1] // SIDE_MULTIPLE**2
    products = block_products(networks.config, rows, device, networks.dtype)
    for runs, names in _grouped((product.name, str(product.choose())) for product in products):
        yield f"  INT8 here    {names}: {runs}"
    width = networks.config.attention_head_dim
    yield f"  --attention int8 here: {attention.choose_on(device, networks.dtype, width)}"
    yield f"  measurements {table.note(device)}"


def _grouped(runs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(what runs, names) of (name, what runs)."""
    found: dict[str, list[str]] = {}
    for name, each in runs:
        found.setdefault(each, []).append(name)
    for each, names in found.items():
        yield each, ", ".join(names)


def _triton_unless(reason: str | None) -> str:
    return "Triton" if reason is None else f"plain torch; Triton refused: {reason}"


def _line(
    place: str,
    networks: Networks,
    size: tuple[int, int],
    text_tokens: int,
    available: int,
    device: str,
    host: int = sys.maxsize,
) -> str:
    """What fits a device with so many bytes, beside so many bytes of main memory that can be pinned."""
    from ideogram_q8.runtime.memory import budget

    choice = budget.choose_plan(networks, size, available, text_tokens, device, host)
    found, free = choice.fits, f"  {place:<12} {gigabytes(available, '5.1f')} free"
    lacks = "".join(f"; --plan {each.plan.key} is skipped: it {budget.pins(each, host)}" for each in choice.short_of_host)
    if found is not None:
        fits = "fits" if not found.plan.streamed else "fits with offload"
        return f"{free}: {fits}, --plan {found.plan.key} ({found.plan.name}); {_stages(found)}{lacks}"
    least = budget.least(networks, size, text_tokens, device)
    return f"{free}: does not fit; --plan {least.plan.key} ({least.plan.name}) needs {_stages(least)}{lacks}"


def _stages(found: Footprint) -> str:
    """The stages in GB, and what is pinned in host memory."""
    stages = {"text": found.text, "denoising": found.denoise, "decoding": found.decode}
    host = f"; {gigabytes(found.host)} of host memory" if found.host else ""
    return ", ".join(f"{name} {gigabytes(bytes_, '.2f')}" for name, bytes_ in stages.items()) + host
