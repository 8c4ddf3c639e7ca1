"""`generate ARTIFACT --caption FILE|TEXT --out picture.png`: one picture."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.caption_text import accepted, read_caption
from ideogram_q8.commands.expansion import add_expand, check_expand, expanded
from ideogram_q8.commands.options import (
    BAR_DELAY,
    add_attention,
    add_compute,
    add_device,
    add_plan,
    add_rest,
    add_source,
    check_new_file,
)
from ideogram_q8.machine.devices import DTYPES, check_device, default_dtype
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.architecture import PRESETS, parse_size, preset
from ideogram_q8.model.typed import as_typed

if TYPE_CHECKING:
    from ideogram_q8.runtime.generation.sampling import Request
    from ideogram_q8.runtime.loading.model import Model

DEFAULT_PRESET = "default-20"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("generate", help="paint one picture")
    what = "`pocket`, a folder that quantize wrote, a GGUF or safetensors file, a checkpoint's folder, or a Hub id org/name[/folder]"
    add_source(parser, "ARTIFACT", what)
    add_rest(parser, "ARTIFACT", ", or in place of an artifact's own")
    parser.add_argument(
        "--text-encoder",
        metavar="DIR|FILE",
        help="what `quantize --component text_encoder` wrote, a safetensors file, or a GGUF file with llama.cpp's names, in place of "
        "ARTIFACT's",
    )
    parser.add_argument("--caption", metavar="FILE|TEXT", required=True, help="a JSON caption or a plain sentence")
    add_expand(parser)
    parser.add_argument("--seed", type=int, default=0, help="0 to 2^63-1; the same seed gives the same picture (default 0)")
    parser.add_argument(
        "--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)} (default: {DEFAULT_PRESET}) or custom-STEPS-gGUIDANCE"
    )
    parser.add_argument("--size", metavar="WxH", help="pixels, for example 1024x768 (default: the model's own)")
    add_device(parser, "the model runs")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    add_compute(parser)
    add_attention(parser)
    add_plan(parser)
    parser.add_argument("--out", type=Path, metavar="PNG", required=True, help="the picture to write")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    check_expand(arguments)
    caption = read_caption(arguments.caption)
    if not arguments.expand:
        caption = accepted(caption, arguments.caption, arguments.size)
    size = None if arguments.size is None else parse_size(arguments.size)
    check_new_file(arguments.out, ".png")
    device = check_device(arguments.device)
    chosen = as_typed(arguments.preset, PRESETS)

    import torch

    from ideogram_q8.builds.opening import open_weights
    from ideogram_q8.runtime.generation.sampling import Request
    from ideogram_q8.runtime.loading.model import load
    from ideogram_q8.runtime.loading.planning import branches_of, find_plan
    from ideogram_q8.runtime.text.expansion import Idea

    opened = open_weights(
        arguments.source,
        unconditional=arguments.unconditional,
        source=arguments.rest,
        revision=arguments.revision,
        as_given=arguments.as_given,
    )
    width, height = size or opened.traits.default_size
    request = Request(caption=caption, seed=arguments.seed, preset=chosen, width=width, height=height)
    request.check(opened.traits, branches_of(opened))  # before gigabytes are read
    branches = request.branches(opened.traits)
    dtype = getattr(torch, arguments.dtype or default_dtype(device))
    if arguments.expand:
        idea = Idea(caption, width, height, arguments.seed)
        request = replace(request, caption=expanded(arguments, opened, idea, device, dtype))
    compute, attention = arguments.compute, arguments.attention
    plan = find_plan(
        arguments.plan, opened, (width, height), torch.device(device), dtype, compute, attention, branches=branches
    )
    encoder = arguments.text_encoder
    model = load(
        opened,
        device=device,
        dtype=dtype,
        text_encoder=encoder,
        compute=compute,
        attention=attention,
        plan=plan,
        size=(width, height),
        branches=branches,
    )
    _paint(model, request, arguments.out)


def _paint(model: Model, request: Request, out: Path) -> None:
    """Generates the picture with a bar for its steps, writes it and says what it took."""
    from tqdm import tqdm

    from ideogram_q8.formats.png import write_png
    from ideogram_q8.runtime.generation.sampling import generate, metadata

    with tqdm(total=preset(request.preset).steps, unit="step", desc=model.variant, delay=BAR_DELAY) as bar:
        result = generate(model, request, on_step=lambda _: bar.update())
    write_png(out, result.image, metadata(result))
    say(
        f"{out}: {request.width}x{request.height}, {result.variant}, {result.seconds_per_step:.3f} s per step, "
        f"{result.total_seconds:.1f} s in all, {result.peak_bytes / 2**20:,.0f} MiB at most"
    )
