"""`bench linear|denoise|load|quantize|project|tune`: how fast things are here, what the machine allows, what that says of a card."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.architecture import IDEOGRAM4, MAX_TEXT_TOKENS, parse_size
from ideogram_q8.bench.cards import CARDS
from ideogram_q8.commands import tune
from ideogram_q8.commands.options import BAR_DELAY, add_device, add_source, check_new_file, open_source
from ideogram_q8.commands.quantize import add_recipe, choose_recipe
from ideogram_q8.devices import DTYPES, check_device, default_dtype
from ideogram_q8.errors import RequestError

if TYPE_CHECKING:
    from ideogram_q8.bench.encoders import EncoderRate
    from ideogram_q8.bench.quantizing import Measured
    from ideogram_q8.bench.results import Progress, Result


@dataclass(frozen=True)
class _Denoise:
    """What `bench denoise` measures unless told otherwise."""

    layers: int
    size: str
    text_tokens: int
    rounds: int
    steps: int
    patience: float


_ON_A_CPU = _Denoise(1, "64x64", 32, rounds=2, steps=1, patience=30.0)
_ON_A_CARD = _Denoise(IDEOGRAM4.num_layers, "1024x1024", 512, rounds=3, steps=4, patience=300.0)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("bench", help="measure how fast this machine is")
    actions = parser.add_subparsers(required=True, metavar="WHAT")
    _add_linear(actions)
    _add_denoise(actions)
    _add_load(actions)
    _add_quantize(actions)
    _add_project(actions)
    tune.add(actions)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep that line in a .json file")


def _add_measuring(parser: argparse.ArgumentParser, purpose: str) -> None:
    add_device(parser, purpose)
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often all take their turn")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    _add_output(parser)


# ---- linear ----


def _add_linear(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("linear", help="every product of Ideogram 4, by every way to compute it that is here")
    parser.add_argument("--rows", metavar="N,N", help="rows of activations (default: 64 on cpu; 256,1024,4096,4608 on cuda)")
    parser.add_argument(
        "--products", metavar="NAME,NAME", help="which, or `all` (default: all on cuda; attention.o,feed_forward.w2 on cpu)"
    )
    _add_measuring(parser, "products are computed")
    parser.set_defaults(verb=run_linear)


def run_linear(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    import torch

    from ideogram_q8.bench import linears
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
    with _bar("products") as show:
        result = linears.measure(settings, torch.device(device), on_progress=show)
    _finish(arguments, result)


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
    parser.add_argument("--size", metavar="WxH", help="pixels (default: 1024x1024 on cuda, 64x64 on cpu)")
    parser.add_argument("--text-tokens", type=int, metavar="N", help="of the caption (default: 512 on cuda, 32 on cpu)")
    parser.add_argument("--variants", metavar="NAME,NAME", help="which of them (default: all; an unknown name lists them)")
    parser.add_argument("--steps", type=int, metavar="N", help="measured in each round (default: 4 on cuda, 1 on cpu)")
    parser.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="what took longer in all is left out of later rounds (300; on cpu 30)",
    )
    parser.add_argument("--memory-cap", type=float, metavar="GB", help="on cuda: as if the card had so many (bytes / 10^9)")
    _add_measuring(parser, "the steps run")
    parser.set_defaults(verb=run_denoise)


def run_denoise(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    import torch

    from ideogram_q8.bench import denoise
    from ideogram_q8.bench.results import DenoiseSettings

    defaults = _ON_A_CARD if device == "cuda" else _ON_A_CPU
    width, height = parse_size(arguments.size or defaults.size)
    text_tokens = _positive(arguments.text_tokens, "--text-tokens", defaults.text_tokens)
    cap = arguments.memory_cap
    if cap is not None and not 1 <= cap <= 1000:
        raise RequestError(f"--memory-cap is {cap:g}; expected gigabytes, for example 24")
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
        memory_cap=None if cap is None else int(cap * 1e9),
        seed=_seed(arguments.seed),
        variants=tuple(denoise.VARIANTS) if arguments.variants is None else tuple(arguments.variants.split(",")),
    )
    with _bar("variants") as show:
        result = denoise.measure(settings, torch.device(device), on_progress=show)
    _finish(arguments, result)


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
        result = loads.measure(places, settings, torch.device(device), on_progress=stack.enter_context(_bar("places")))
    _finish(arguments, result)


# ---- project ----


def _add_project(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("project", help="what a measurement on one card says about another, and how it is worked out")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `bench denoise --out` or `bench linear --out` wrote")
    parser.add_argument("--card", choices=CARDS, default="rtx-3090", help="the other card (default rtx-3090)")
    _add_output(parser)
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
    _print(arguments, tables.projection_table(found), results.to_json(found))


# ---- what they share ----


def check_output(arguments: argparse.Namespace) -> None:
    """Raises RequestError: `--out` cannot be written."""
    if arguments.out is not None:
        check_new_file(arguments.out, ".json")


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Callable[[Progress], None]]:
    """Progress with rate and time left, on standard error."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", delay=BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.set_postfix_str(progress.label)
            bar.update(progress.done - bar.n)

        yield show


def _finish(arguments: argparse.Namespace, result: Result) -> None:
    """Prints and keeps a result. Raises KeyboardInterrupt where Ctrl-C ended it, so that the exit code says so."""
    from ideogram_q8.bench import results, tables

    _print(arguments, tables.table(result), results.to_json(result))
    if result.interrupted:
        raise KeyboardInterrupt


def _print(arguments: argparse.Namespace, table: str, line: str) -> None:
    from ideogram_q8.bench import results

    if arguments.out is not None:
        results.write(arguments.out, line)
    if not arguments.json:
        print(f"{table}\n")
    print(line)


# ---- quantize ----


def _add_quantize(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    _add_output(parser)
    parser.set_defaults(verb=run_quantize)


def run_quantize(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_output(arguments)
    device = check_device(arguments.device)

    from ideogram_q8.bench.quantizing import measure

    source = open_source(arguments)
    recipe, importance = choose_recipe(arguments, source)
    found = measure(source, recipe, arguments.folder, device=device, importance=importance, ggml_library=arguments.ggml)
    _print(arguments, quantizing_table(found), json.dumps(asdict(found), ensure_ascii=False))


def _encoder_line(rate: EncoderRate) -> str:
    label = f"encode {rate.type}{', weighted' if rate.weighted else ''}"
    beside = rate.note if rate.ggml is None else f"ggml's C {rate.ggml / 1e6:.1f}: ours is {rate.ours / rate.ggml:.2f} of it"
    return f"{label:<24}{rate.ours / 1e6:8.1f} M/s    weights a core; {beside}"


def quantizing_table(found: Measured) -> str:
    """The figures for people; a rate is GB (10^9 bytes) of source a second."""
    rows = [
        (
            f"quantize to {found.variant}",
            found.quantize_rate,
            f"{found.seconds:.1f} s, {found.peak_bytes / 1e9:.2f} GB at most",
        ),
        ("copy of the source", found.copy_rate, f"quantize reaches {found.share_of_copy:.0%} of it"),
        ("one pass over memory", found.memory_rate, f"quantize reaches {found.share_of_memory:.1%} of it"),
    ]
    lines = [f"{label:<24}{rate:8.3f} GB/s   {note}" for label, rate, note in rows]
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    amounts = f"{found.source_bytes / 1e9:.2f} GB read, {found.written_bytes / 1e9:.2f} GB written"
    machine = f"{found.processor}, {found.cores} cores, {found.system}; {versions}"
    lines += [_encoder_line(rate) for rate in found.encoders]
    return "\n".join([f"{amounts}; the source in the system's cache: {found.source_cache}", *lines, machine])
