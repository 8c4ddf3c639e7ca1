"""`card BUILD ... --report REPORT --repo OWNER/NAME --out DIR`: the README of the repositories that the builds will be in."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.errors import RequestError
from ideogram_q8.machine.terminal import say

if TYPE_CHECKING:
    from ideogram_q8.publishing.cards.cards import Evaluation, FoundBuild


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser(
        "card",
        help="the card of a build or a family, with pictures and charts, from a report of `evaluate`",
        description="Makes the card of a build, or one for a family in one repository, or of several builds one each, and puts the "
        "report and its pictures into each BUILD, from where `push` publishes them.",
    )
    parser.add_argument(
        "builds", metavar="BUILD", type=Path, nargs="*", help="a folder that quantize wrote, or a folder of several; repeatable"
    )
    parser.add_argument(
        "--report",
        metavar="REPORT",
        type=Path,
        help="what `evaluate` had as --out, or its report.json (default: the report that lies in BUILD; where there is none, every "
        "figure reads 'not measured')",
    )
    parser.add_argument(
        "--family", action="store_true", help="all builds in one repository, with a card that says which to take"
    )
    parser.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        required=True,
        help="the repository on the Hub; of several builds that are no family, OWNER/NAME-VARIANT each",
    )
    parser.add_argument("--again", action="store_true", help="render the cards of several builds from what lies in --out")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for the cards and what they show")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error; OSError: the disk refuses."""
    from ideogram_q8.publishing.cards import cards
    from ideogram_q8.publishing.pushing.plan import check_repo

    check_repo(arguments.repo)
    if arguments.again == bool(arguments.builds):
        raise RequestError("name one BUILD or more, or --again without any; see `card --help`")
    out, repo, family = arguments.out, arguments.repo, arguments.family
    builds = cards.read_builds(*arguments.builds)
    measured = cards.read_evaluation(arguments.report) if arguments.report else None
    if measured:
        _note_the_unmeasured(builds, measured)
        cards.take(builds, measured)
    if family or len(builds) == 1:
        files = cards.repository(builds, repo, family)
    else:
        if builds:
            cards.write_collection(out, repo, builds, measured or cards.measured_beside(builds))
        files = {name: text.encode() for name, text in cards.rendered(out, repo).items()}
    cards.write_files(out, files)
    say(f"{out}: {', '.join(name for name in files if name.endswith('.md'))}")
    for line in cards.push_lines(builds, repo, family):
        say(f"publish it with: python -m ideogram_q8 push {line}")


def _note_the_unmeasured(builds: Mapping[str, FoundBuild], measured: Evaluation) -> None:
    """A report names its variants as `evaluate` was told to, so that a build may be in it under another name."""
    known = [variant.name for variant in measured.report.variants]
    for name, build in builds.items():
        if build.manifest.variant not in known:
            say(
                f"note: the report has {', '.join(known)}, none of them {build.manifest.variant}: every figure of {name} reads "
                "'not measured'; evaluate it under that name",
                to="err",
            )
