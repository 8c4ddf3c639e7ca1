"""`inspect PATH`: what a checkpoint, an artifact or a picture is."""

from __future__ import annotations

import argparse

from ideogram_q8.commands.options import add_source
from ideogram_q8.machine.terminal import say_json, say_text


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("inspect", help="say what a checkpoint, an artifact or a picture is")
    add_source(
        parser,
        "PATH",
        "`pocket`, a folder, a safetensors or GGUF file, a Hub id org/name[/folder], or a PNG that generate wrote",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from ideogram_q8.builds.inspection import describe, to_json, to_text

    found = describe(
        arguments.source, unconditional=arguments.unconditional, revision=arguments.revision, as_given=arguments.as_given
    )
    if arguments.json:
        say_json(to_json(found))
    else:
        say_text(to_text(found))
