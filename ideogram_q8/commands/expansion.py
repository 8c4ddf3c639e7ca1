"""`generate --expand`: a structured caption of a plain one, written before the transformers need the memory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import BAR_DELAY, add_prompt_expander
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.terminal import say, say_json

if TYPE_CHECKING:
    import torch

    from ideogram_q8.builds import Artifact
    from ideogram_q8.builds.opening import Build
    from ideogram_q8.runtime.text.expansion import Idea
    from ideogram_q8.sources import Source


def add_expand(parser: argparse.ArgumentParser) -> None:
    """`--expand` and `--prompt-expander`."""
    parser.add_argument(
        "--expand",
        action="store_true",
        help="the text encoder first writes a structured caption of a plain one and prints it; its words depend on --seed",
    )
    add_prompt_expander(parser)


def check_expand(arguments: argparse.Namespace) -> None:
    """Raises RequestError: an option is of no use."""
    if arguments.prompt_expander is not None and not arguments.expand:
        raise RequestError("--prompt-expander is for --expand; give both or neither")


def expanded(
    arguments: argparse.Namespace, opened: Source | Artifact | Build, idea: Idea, device: str, dtype: torch.dtype
) -> str:
    """The caption. The text encoder that writes it is the one that will read it, alone on the device.

    Raises:
        IdeogramQ8Error: there is nothing to write with or to expand, or no caption came out.
    """
    from tqdm import tqdm

    from ideogram_q8.builds.opening import Build, open_text_encoder_build, origin
    from ideogram_q8.runtime.loading.text_encoder import load_text_encoder
    from ideogram_q8.runtime.text.expansion import MAX_TOKENS, expand, find_head
    from ideogram_q8.sources import Source, open_text_encoder

    idea.check()
    folder = opened.folder if isinstance(opened, Source) else origin(opened)[1]
    head, build = find_head(folder, arguments.prompt_expander), None
    if arguments.text_encoder is not None:
        weights = opened.weights if isinstance(opened, Build) else opened
        config = weights.config if isinstance(weights, Source) else weights.transformer_config
        build = open_text_encoder_build(Path(arguments.text_encoder), config, folder)
    encoder = load_text_encoder(open_text_encoder(folder), device, dtype, build=build, compute=arguments.compute)
    with tqdm(total=MAX_TOKENS, unit="token", desc="caption", delay=BAR_DELAY) as bar:
        found = expand(encoder.model, encoder.tokenizer, head, idea, on_token=lambda _: bar.update())
    for what in found.mended:
        say(f"mended: {what}", to="err")
    say_json(found.caption)
    return found.caption
