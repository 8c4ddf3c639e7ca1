"""`push VERB ...`: the publishing command; `ideogram_q8.publishing.push` has its verbs, and is imported when one is called."""

from __future__ import annotations

import argparse


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb. All that follows it, `--help` too, is for the publishing command."""
    parser = verbs.add_parser(
        "push",
        help="publish builds on the Hub: plan, push, status, verify, rollback, space",
        add_help=False,
        prefix_chars="\0",  # nothing that a shell can pass is an option here
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> int:
    """The exit code of the publishing command, which prints its own refusals."""
    from ideogram_q8.publishing.push import main

    return main(arguments.rest, "python -m ideogram_q8 push")
