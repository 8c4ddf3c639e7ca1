"""`calibrate SOURCE --captions FILE --out stats.safetensors` and `merge-stats A B --out C`: what goes into every Linear."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.captions import lint, parse
from ideogram_q8.commands.generate import DEFAULT_PRESET
from ideogram_q8.commands.options import (
    BAR_DELAY,
    add_component,
    add_device,
    add_overwrite,
    add_rest,
    add_source,
    check_new_file,
    open_source,
    open_text_encoder,
)
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import check_device, default_dtype
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.architecture import PRESETS, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from ideogram_q8.calibration.run import CalibrationProgress
    from ideogram_q8.recipes.statistics import Statistics
    from ideogram_q8.runtime.loading.model import Model
    from ideogram_q8.sources import Source

SUFFIX = ".safetensors"
SAMPLE_ROWS = 128
"""Input rows kept of each Linear: about 0.9 GB for both branches of the real model."""
_WARNINGS_SHOWN = 5
_PAINTING = ("preset", "size", "seed", "offload", "rest")
"""Options that mean nothing to a text encoder."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers both verbs."""
    parser = verbs.add_parser("calibrate", help="record what goes into every Linear while the model paints")
    add_source(parser, what="`pocket`, or a whole checkpoint as a folder, a file in it or a Hub id, text encoder included")
    add_rest(parser, "SOURCE")
    add_component(parser)
    parser.add_argument(
        "--captions",
        metavar="NAME|FILE",
        required=True,
        help="`ideogram-calibration` (128 of ours), `pocket` (32 of its world), or a file: a caption a line, or a JSON list",
    )
    parser.add_argument("--out", type=Path, metavar="STATS", required=True, help=f"file to write, NAME{SUFFIX}")
    parser.add_argument("--preset", choices=list(PRESETS), help=f"default {DEFAULT_PRESET}")
    parser.add_argument("--size", metavar="WxH", help="pixels, for example 1024x768 (default: the model's own)")
    parser.add_argument("--seed", type=int, help="added to the seed that each caption has of its own (default 0)")
    parser.add_argument("--sample-rows", type=int, default=SAMPLE_ROWS, help=f"input rows to keep (default {SAMPLE_ROWS})")
    add_device(parser, "the model runs")
    parser.add_argument("--offload", action="store_true", help="with --device cuda: one transformer block on the GPU at a time")
    add_overwrite(parser, "a file")
    parser.set_defaults(verb=run)
    parser = verbs.add_parser("merge-stats", help="put the statistics of several calibration runs together")
    parser.add_argument(
        "parts", type=Path, nargs="+", metavar="STATS", help="files that calibrate wrote, same model and setting"
    )
    parser.add_argument("--out", type=Path, metavar="STATS", required=True, help=f"file to write, NAME{SUFFIX}")
    add_overwrite(parser, "a file")
    parser.set_defaults(verb=merge)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_new_file(arguments.out, SUFFIX, overwrite=arguments.overwrite)
    for name in _PAINTING if arguments.component == "text_encoder" else ():
        if getattr(arguments, name):
            raise RequestError(f"--{name} is about painting; a text encoder only reads the captions: leave it out")
    size = None if arguments.size is None else parse_size(arguments.size)
    if arguments.offload and arguments.device != "cuda":
        raise RequestError("--offload moves blocks to a GPU and back; use it with --device cuda")
    check_device(arguments.device)

    from tqdm import tqdm

    from ideogram_q8.recipes import statistics

    captions = _captions(arguments.captions)
    calibrate = _reading(arguments) if arguments.component == "text_encoder" else _painting(arguments, size)
    partial = arguments.out.with_name(f"{arguments.out.name}.partial")
    with tqdm(unit="step", desc="calibrate", delay=BAR_DELAY) as bar:

        def show(progress: CalibrationProgress) -> None:
            if bar.total is None:
                bar.total, bar.initial, bar.n = progress.steps, progress.done_steps, progress.done_steps
            bar.set_postfix_str(f"{progress.done_captions}/{progress.captions} captions", refresh=False)
            bar.update(progress.done_steps - bar.n)

        try:
            found = calibrate(captions, partial=partial, on_progress=show)
        except KeyboardInterrupt:
            if partial.exists():
                say(f"{partial} keeps the finished captions; the same command goes on from there", to="err")
            raise
    statistics.write(arguments.out, found)
    partial.unlink(missing_ok=True)
    _report(arguments.out, found)


def _painting(arguments: argparse.Namespace, size: tuple[int, int] | None) -> Callable[..., Statistics]:
    """`calibrate` for the transformers, without what it calibrates with."""
    from ideogram_q8.calibration.run import CalibrationJob, calibrate

    source = _open_pair(arguments)
    width, height = size or source.traits.default_size
    chosen = arguments.preset or DEFAULT_PRESET
    job = CalibrationJob(source.record(), chosen, width, height, arguments.seed or 0, arguments.sample_rows)
    model = _load(source, arguments)
    return lambda captions, **options: calibrate(model, captions, job, **options)


def _open_pair(arguments: argparse.Namespace) -> Source:
    """What is painted with: a checkpoint, or single files and what `--source` adds. Raises SourceError."""
    from ideogram_q8.builds.opening import open_weights
    from ideogram_q8.sources import Source

    if arguments.rest is None and not Path(arguments.source).is_file():
        return open_source(arguments)
    opened = open_weights(
        arguments.source,
        unconditional=arguments.unconditional,
        source=arguments.rest,
        revision=arguments.revision,
        as_given=arguments.as_given,
    )
    if not isinstance(opened, Source):
        raise RequestError(f"{arguments.source} is a build; calibrate with the checkpoint that it was made from")
    return opened


def _reading(arguments: argparse.Namespace) -> Callable[..., Statistics]:
    """`calibrate` for the text encoder, without what it calibrates with."""
    import torch

    from ideogram_q8.calibration.run import EncoderJob, calibrate
    from ideogram_q8.runtime.loading.text_encoder import load_text_encoder

    source = open_text_encoder(arguments)
    job = EncoderJob(source.record(), source.config, arguments.sample_rows)
    encoder = load_text_encoder(source, arguments.device, getattr(torch, default_dtype(arguments.device)))
    return lambda captions, **options: calibrate(encoder, captions, job, **options)


def merge(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_new_file(arguments.out, SUFFIX, overwrite=arguments.overwrite)

    from ideogram_q8.recipes import statistics

    total = statistics.merge([statistics.read(path) for path in arguments.parts])
    statistics.write(arguments.out, total)
    _report(arguments.out, total)


def _captions(argument: str) -> tuple[str, ...]:
    from ideogram_q8.captions.calibration import NAMED, named_captions, read_captions

    if argument in NAMED:
        return named_captions(argument)
    captions = read_captions(Path(argument))
    warnings = [f"caption {i}: {issue}" for i, caption in enumerate(captions, 1) for issue in lint(parse(caption))]
    for warning in warnings[:_WARNINGS_SHOWN]:
        say(f"warning: {warning}", to="err")
    if len(warnings) > _WARNINGS_SHOWN:
        say(f"warning: and {len(warnings) - _WARNINGS_SHOWN} more like these", to="err")
    return captions


def _load(source: Source, arguments: argparse.Namespace) -> Model:
    import torch

    from ideogram_q8.calibration.run import offload_blocks
    from ideogram_q8.runtime.loading.model import load

    device = torch.device(arguments.device)
    dtype = getattr(torch, default_dtype(arguments.device))
    if not arguments.offload:
        return load(source, device=device, dtype=dtype)
    model = load(source, device="cpu", dtype=dtype)
    offload_blocks(model, device)
    return model


def _report(path: Path, statistics: Statistics) -> None:
    calibration = statistics.calibration
    how = f" of {calibration.steps} steps at {calibration.width}x{calibration.height}" if calibration.preset else " read"
    say(f"{path}: {len(statistics.entries)} Linears, {len(calibration.captions)} captions{how}, {path.stat().st_size:,} bytes")
