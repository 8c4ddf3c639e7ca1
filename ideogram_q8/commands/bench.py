"""`bench linear|denoise|load|quantize|project|tune|card`: how fast things are here, what the machine allows, what that says of a card."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.bench.cards import CARDS
from ideogram_q8.commands import bench_card, bench_quantize, bench_tune
from ideogram_q8.commands.bench_output import add_output, check_output, finish, keeper, progress_bar, tell
from ideogram_q8.commands.options import add_device
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import DTYPES, check_device, default_dtype
from ideogram_q8.model.architecture import IDEOGRAM4, MAX_TEXT_TOKENS, parse_size
from ideogram_q8.model.typed import as_typed


@dataclass(frozen=True)
class _Denoise:
    """What `bench denoise` measures unless told otherwise."""

    layers: int
    size: str
    text_tokens: int
    rounds: int
    steps: int
    patience: float


# 64 tokens: fewer than 32 are not quantized, and the unconditional branch sees no others
_ON_A_CPU = _Denoise(1, "128x128", 32, rounds=2, steps=1, patience=30.0)
_ON_A_CARD = _Denoise(IDEOGRAM4.num_layers, "1024x1024", 512, rounds=3, steps=4, patience=300.0)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("bench", help="measure how fast this machine is")
    actions = parser.add_subparsers(required=True, metavar="WHAT")
    _add_linear(actions)
    _add_denoise(actions)
    _add_load(actions)
    bench_quantize.add(actions)
    _add_project(actions)
    bench_tune.add(actions)
    bench_card.add(actions)


def _add_measuring(parser: argparse.ArgumentParser, purpose: str) -> None:
    add_device(parser, purpose)
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often all take their turn")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    add_output(parser)


# ---- linear ----


def _add_linear(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("linear", help="every product of Ideogram 4, by every way to compute it that is here")
    parser.add_argument("--rows", metavar="N,N", help="rows of activations (default: 64 on cpu; 256,1024,4096,4608 on cuda)")
    parser.add_argument(
        "--products", metavar="NAME,NAME", help="which, or `all` (default: all on cuda; attention.o,feed_forward.w2 on cpu)"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out other people's ways; on a CPU theirs take most of the time"
    )
    _add_measuring(parser, "products are computed")
    parser.set_defaults(verb=run_linear)


def run_linear(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    import torch

    from ideogram_q8.bench.linear import linears
    from ideogram_q8.bench.linear.linear_paths import OWN, PATHS
    from ideogram_q8.bench.results import LinearSettings

    names = arguments.products
    chosen = linears.KINDS[device] if names is None else None if names == "all" else tuple(names.split(","))
    settings = LinearSettings(
        dtype=arguments.dtype or default_dtype(device),
        rows=linears.ROWS[device] if arguments.rows is None else _counts(arguments.rows),
        kinds=chosen or (),
        rounds=_positive(arguments.rounds, "--rounds", linears.ROUNDS[device]),
        seed=_seed(arguments.seed),
    )
    with progress_bar("products") as show:
        paths = OWN if arguments.no_peers else PATHS
        result = linears.measure(settings, torch.device(device), paths=paths, on_progress=show, keep=keeper(arguments))
    finish(arguments, result)


def _counts(text: str) -> tuple[int, ...]:
    found = [int(part) for part in text.split(",") if part.strip().isdecimal() and len(part) < 7]
    if not found or len(found) != len(text.split(",")) or min(found) < 1:
        raise RequestError(f"--rows is {text[:60]!r}; expected numbers of rows, as 256,4096")
    return tuple(found)


def _positive(value: int | None, option: str, default: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= 1000:
        raise RequestError(f"{option} is {value}; expected 1 to 1000")
    return value


def _seed(value: int) -> int:
    if not 0 <= value < 1 << 31:
        raise RequestError(f"--seed is {value}; expected 0 to {(1 << 31) - 1}")
    return value


# ---- denoise ----


def _add_denoise(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "denoise",
        help="a step at the real width on random weights: every variant, beside diffusers, torchao, SDNQ and ComfyUI's way",
    )
    layers = IDEOGRAM4.num_layers
    parser.add_argument("--layers", type=int, metavar="N", help=f"transformer blocks (default: {layers} on cuda, 1 on cpu)")
    parser.add_argument("--size", metavar="WxH", help="pixels (default: 1024x1024 on cuda, 128x128 on cpu)")
    parser.add_argument("--text-tokens", type=int, metavar="N", help="of the caption (default: 512 on cuda, 32 on cpu)")
    parser.add_argument("--variants", metavar="NAME,NAME", help="which of them (default: all; an unknown name lists them)")
    parser.add_argument("--steps", type=int, metavar="N", help="measured in each round (default: 4 on cuda, 1 on cpu)")
    parser.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="what took longer in all is left out of later rounds (300; on cpu 30)",
    )
    parser.add_argument(
        "--memory-cap",
        type=float,
        metavar="GB",
        help="on cuda: as if the card had so many (bytes / 10^9; default: 24 on a card that has more; 0: all it has)",
    )
    _add_measuring(parser, "the steps run")
    parser.set_defaults(verb=run_denoise)


def run_denoise(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    import torch

    from ideogram_q8.bench.picture import denoise
    from ideogram_q8.bench.results import DenoiseSettings

    defaults = _ON_A_CARD if device == "cuda" else _ON_A_CPU
    width, height = parse_size(arguments.size or defaults.size)
    text_tokens = _positive(arguments.text_tokens, "--text-tokens", defaults.text_tokens)
    settings = DenoiseSettings(
        layers=_positive(arguments.layers, "--layers", defaults.layers),
        width=width,
        height=height,
        text_tokens=text_tokens,
        padded_tokens=MAX_TEXT_TOKENS if device == "cuda" else text_tokens,
        dtype=arguments.dtype or default_dtype(device),
        rounds=_positive(arguments.rounds, "--rounds", defaults.rounds),
        steps=_positive(arguments.steps, "--steps", defaults.steps),
        patience=defaults.patience if arguments.patience is None else arguments.patience,
        memory_cap=denoise.default_cap(torch.device(device)) if arguments.memory_cap is None else _cap(arguments.memory_cap),
        seed=_seed(arguments.seed),
        variants=tuple(denoise.VARIANTS)
        if arguments.variants is None
        else tuple(as_typed(name, denoise.VARIANTS) for name in arguments.variants.split(",")),
    )
    with progress_bar("variants") as show:
        result = denoise.measure(settings, torch.device(device), on_progress=show, keep=keeper(arguments))
    finish(arguments, result)


def _cap(gigabytes: float) -> int | None:
    """Bytes; None for 0."""
    if gigabytes and not 1 <= gigabytes <= 1000:
        raise RequestError(f"--memory-cap is {gigabytes:g}; expected gigabytes, for example 24, or 0 for all that the card has")
    return int(gigabytes * 1e9) or None


# ---- load ----


def _add_load(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("load", help="from files to transformers on the device, and from one variant to another")
    parser.add_argument(
        "places",
        metavar="PLACE",
        nargs="*",
        help="a folder that quantize wrote, a GGUF file or a checkpoint (default: a random checkpoint and its builds)",
    )
    parser.add_argument("--layers", type=int, metavar="N", help="of the random checkpoint, 0.5 GB each (default 1)")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", default=Path(), help="where to write it, for a while (default: here)"
    )
    _add_measuring(parser, "the weights go")
    parser.set_defaults(verb=run_load)


def run_load(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)
    if not arguments.folder.is_dir():
        raise RequestError(f"no folder {arguments.folder} to write into; name one on the disk that is to be measured")
    if arguments.places and arguments.layers is not None:
        raise RequestError("--layers is of a random checkpoint; leave it out where places are named")

    import torch

    from ideogram_q8.bench import loads
    from ideogram_q8.bench.results import LoadSettings

    layers = 0 if arguments.places else _positive(arguments.layers, "--layers", 1)
    dtype = arguments.dtype or default_dtype(device)
    settings = LoadSettings(dtype, _positive(arguments.rounds, "--rounds", 3), layers, _seed(arguments.seed))
    with contextlib.ExitStack() as stack:
        places = arguments.places
        if layers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder)))
            source = loads.write_random(folder / "random", layers, settings.seed)
            places = loads.write_variants(folder, source, loads.SCHEMES)
        show = stack.enter_context(progress_bar("places"))
        result = loads.measure(places, settings, torch.device(device), on_progress=show, keep=keeper(arguments))
    finish(arguments, result)


# ---- project ----


def _add_project(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("project", help="what a measurement on one card says about another, and how it is worked out")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `bench denoise --out` or `bench linear --out` wrote")
    parser.add_argument("--card", choices=CARDS, default="rtx-3090", help="the other card (default rtx-3090)")
    add_output(parser)
    parser.set_defaults(verb=run_project)


def run_project(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)

    from ideogram_q8.bench import results, tables
    from ideogram_q8.bench.projection import project

    try:
        found = project(results.read(arguments.file), CARDS[arguments.card])
    except RequestError as error:
        raise RequestError(f"{arguments.file}: {error}") from None
    tell(arguments, tables.projection_table(found), results.to_json(found))
