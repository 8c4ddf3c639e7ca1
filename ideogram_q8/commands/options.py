"""Options and refusals that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ideogram_q8.errors import RequestError
from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.devices import ATTENTIONS, AUTO, COMPUTES, DEVICES, PLANS
from ideogram_q8.model.components import COMPONENTS
from ideogram_q8.model.typed import as_typed

if TYPE_CHECKING:
    from ideogram_q8.sources import Checkpoint, Source, TextEncoderSource

BAR_DELAY = 0.01
"""Seconds before a progress bar shows: what is refused at once shows none."""
SOURCE_HELP = "`pocket`, a checkpoint folder or file, or a Hub id org/name"


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are errors like all others: one line, exit code 2. Choices may be typed as `as_typed` reads them."""

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if action.choices is not None and not isinstance(action, argparse._SubParsersAction):
            arg_string = as_typed(arg_string, map(str, action.choices))
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see {self.prog} --help")


def add_source(parser: argparse.ArgumentParser, metavar: str = "SOURCE", what: str = SOURCE_HELP) -> None:
    """`SOURCE` and the options that some kinds of it need; `open_source` reads them."""
    parser.add_argument("source", metavar=metavar, help=what)
    parser.add_argument(
        "--unconditional",
        metavar="FILE",
        help=f"the second file, where {metavar} is a single file (default: the one beside it that is named so); `none` takes the "
        "conditional transformer alone",
    )
    parser.add_argument(
        "--as-given",
        action="store_true",
        help="take two files as they are given, though their names, headers, bytes or weights say that they are swapped or one",
    )
    parser.add_argument("--revision", help=f"branch, tag or commit, where {metavar} is a Hub id")


def add_rest(parser: argparse.ArgumentParser, metavar: str, more: str = "") -> None:
    """`--source`, where what single files lack comes from; `more` is what else it is for."""
    parser.add_argument(
        "--source",
        dest="rest",
        metavar="SOURCE",
        help=f"where text encoder, tokenizer and VAE come from, where {metavar} is a single file or has none (default: its folder)"
        f"{more}: `pocket`, a folder or a Hub id",
    )


def open_source(arguments: argparse.Namespace) -> Source:
    """Raises SourceError."""
    from ideogram_q8.sources import open_source

    return open_source(
        arguments.source, unconditional=arguments.unconditional, revision=arguments.revision, as_given=arguments.as_given
    )


def open_text_encoder(arguments: argparse.Namespace) -> TextEncoderSource:
    """Raises SourceError; RequestError: a second file was named."""
    from ideogram_q8.sources import open_text_encoder

    if arguments.unconditional is not None:
        raise RequestError("--unconditional names a transformer; leave it out with --component text_encoder")
    return open_text_encoder(arguments.source, revision=arguments.revision)


def open_component(arguments: argparse.Namespace) -> Checkpoint:
    """What `--component` names. Raises SourceError, RequestError: see `open_source` and `open_text_encoder`."""
    return open_source(arguments) if arguments.component == "transformers" else open_text_encoder(arguments)


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """`--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} that is already there")


def add_device(parser: argparse.ArgumentParser, purpose: str) -> None:
    """`--device cpu|cuda`."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help=f"where {purpose} (default cpu)")


def add_compute(parser: argparse.ArgumentParser) -> None:
    """`--compute bf16|int8`."""
    parser.add_argument(
        "--compute",
        choices=COMPUTES,
        default=COMPUTES[0],
        help="what a GGUF build computes in: bf16, or --dtype, with weights expanded to it; int8, with weights expanded to int8 and "
        "activations quantized, which is faster where there are int8 tensor cores and changes pictures: they say so "
        f"(default {COMPUTES[0]})",
    )


def add_attention(parser: argparse.ArgumentParser) -> None:
    """`--attention sdpa|int8`."""
    parser.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default=ATTENTIONS[0],
        help="sdpa, torch's own; int8, its scores from int8 products, which is faster where there are int8 tensor cores and changes "
        f"pictures: they say so (default {ATTENTIONS[0]})",
    )


def add_prompt_expander(parser: argparse.ArgumentParser) -> None:
    """`--prompt-expander DIR|ID`."""
    parser.add_argument(
        "--prompt-expander",
        metavar="DIR|ID",
        help="the text encoder's last layer, with which it writes structured captions: a folder or a Hub id (default: the checkpoint's "
        "prompt_enhancer_head, or diffusers/qwen3-vl-8b-instruct-lm-head in the Hub's cache)",
    )


def add_plan(parser: argparse.ArgumentParser) -> None:
    """`--plan auto|resident|freed|encoder|unconditional|both`."""
    parser.add_argument(
        "--plan",
        choices=(AUTO, *PLANS),
        default=AUTO,
        help="what stays on a card: all (resident); all but the text encoder after its use (freed); or what is streamed from the "
        "computer's memory: the text encoder (encoder), the unconditional transformer as well (unconditional), both transformers as "
        f"well (both); `doctor` says what fits (default {AUTO}: the first that does)",
    )


def add_component(parser: argparse.ArgumentParser) -> None:
    """`--component transformers|text_encoder`."""
    parser.add_argument(
        "--component", choices=COMPONENTS, default=COMPONENTS[0], help=f"which part of the checkpoint (default {COMPONENTS[0]})"
    )


def check_new_file(path: Path, suffix: str, option: str = "--out", overwrite: bool = True) -> None:
    """Raises RequestError unless `path` can name a new file of this kind, or one that may be replaced."""
    if path.suffix.lower() != suffix or path.is_dir():
        raise RequestError(f"{option} is {path}; expected a file name that ends with {suffix}")
    problem = machine.here.name_problem(path.name)
    if problem is not None:
        raise RequestError(f"{option} is {path}: {problem}; choose another name")
    if not path.parent.is_dir():
        raise RequestError(f"{option} is {path}, but there is no folder {path.parent}; make it or choose another place")
    if path.exists() and not overwrite:
        raise RequestError(f"{path} is there already; use --overwrite or name another file")
