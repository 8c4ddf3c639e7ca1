"""The publishing command: from a build's folder to a repository on the Hub, and from this tool to a Space.

    python publish/push.py plan DIR --repo NAME/REPO        check DIR, show what a push would send; no network, no token
    python publish/push.py push DIR --repo NAME/REPO        publish it in one commit, and prove it; --dry-run asks the Hub, sends nothing
    python publish/push.py status DIR --repo NAME/REPO      does the repository hold DIR? exit code 1 if not
    python publish/push.py verify DIR --repo NAME/REPO      compare every size and sha256
    python publish/push.py rollback DIR --repo NAME/REPO    make the repository what it was before the last push of DIR
    python publish/push.py space --repo NAME/SPACE          put the app together as a Space, check it, publish it the same way

`ideogram-q8 push` and `python -m ideogram_q8 push` do the same; `space` needs a checkout.

DIR holds an artifact with its manifest.json and report.json, or several in sub-folders. Exit code 0, or 2 with one line on standard error.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import get_token

from ideogram_q8.errors import IdeogramQ8Error, PublishError, printable
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.quantities import byte_text
from ideogram_q8.machine import console
from ideogram_q8.machine.terminal import say, say_json
from ideogram_q8.publishing.cards.card import Links
from ideogram_q8.publishing.cards.family import cards
from ideogram_q8.publishing.pushing import receipts, show
from ideogram_q8.publishing.pushing.checks import release_problems
from ideogram_q8.publishing.pushing.hub import MAIN, Hub
from ideogram_q8.publishing.pushing.plan import ReleaseFile, check_collection, check_reference, check_repo, make_plan
from ideogram_q8.publishing.pushing.refusals import redact
from ideogram_q8.publishing.pushing.sending import Outcome, PushOrder, consult, push, roll_back, verify
from ideogram_q8.publishing.release import CARD, Release, complete, read_release
from ideogram_q8.publishing.space import space_command


def main(arguments: Sequence[str] | None = None, program: str = "push.py") -> int:
    """Runs the command, which `program` is called in its help; returns the exit code."""
    options = _parser(program).parse_args(arguments)
    try:
        _check_names(options)  # before minutes of hashing
        code: int = options.run(options)
    except BrokenPipeError:
        raise  # nobody reads the output: `console.run` ends quietly
    except (IdeogramQ8Error, OSError) as error:
        say(error_line(error), to="err")
        return 2
    except KeyboardInterrupt:
        return console.interrupted()
    return code


def _check_names(options: argparse.Namespace) -> None:
    """Raises PublishError: the Hub would refuse a name, after the work."""
    given = vars(options)
    check_repo(options.repo)
    for other in given.get("sibling", ()):
        check_repo(other, "--sibling")
    if given.get("new_version"):
        check_repo(given["new_version"], "--new-version")
    for text in given.get("variant", ()):
        check_repo(text.partition("@")[0], "--variant")
    for option in ("revision", "tag", "to"):
        if given.get(option) is not None:
            check_reference(given[option], f"--{option}")
    if given.get("parent") is not None and not re.fullmatch(r"[0-9a-f]{40}", given["parent"]):
        raise PublishError(
            f"--parent is {given['parent'][:80]!r}; expected a commit of 40 hexadecimal digits, as --dry-run prints it"
        )
    if given.get("collection") is not None:
        check_collection(given["collection"])


def error_line(error: Exception) -> str:
    """What a user sees of an error: one line, and no token in it."""
    return f"error: {printable(' '.join(redact(str(error), get_token()).split()))}"


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Publish quantized builds on the Hugging Face Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--repo", required=True, metavar="NAME/REPO", help="the repository on the Hub")
    common.add_argument(
        "--revision", default=MAIN, metavar="BRANCH", help="the branch, made where it is missing (default: main)"
    )
    common.add_argument("--json", action="store_true", help="print the outcome as JSON")
    build = argparse.ArgumentParser(add_help=False)
    build.add_argument("folder", metavar="DIR", type=Path, help="artifact folder, or a folder of several")
    build.add_argument(
        "--sibling",
        metavar="NAME/REPO",
        action="append",
        default=[],
        help="another format of the same model, linked from the card",
    )
    build.add_argument("--new-version", metavar="NAME/REPO", help="what replaces this repository, as the Hub shows it")
    build.add_argument("--code", metavar="URL", help="where the card says that this tool can be cloned from")
    sending = argparse.ArgumentParser(add_help=False)
    sending.add_argument("--private", action="store_true", help="make a new repository private")
    sending.add_argument("--tag", metavar="NAME", help="also tag the commit, as in v1.0.0")
    sending.add_argument(
        "--parent", metavar="COMMIT", help="refuse unless the branch is still at this commit, as --dry-run said"
    )
    sending.add_argument("--prune", action="store_true", help="delete what the repository holds beside this release")
    sending.add_argument("--collection", metavar="TITLE", help="also put it into this collection of the owner, made if missing")
    sending.add_argument("--dry-run", action="store_true", help="ask the Hub and print the plan; send nothing")
    _add_commands(commands, common, build, sending)
    return parser


def _add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    build: argparse.ArgumentParser,
    sending: argparse.ArgumentParser,
) -> None:
    plan = commands.add_parser("plan", parents=[build, common], help="check and show; no network, no token")
    plan.add_argument("--card", metavar="FILE", type=Path, help="also write the rendered card to FILE")
    plan.set_defaults(run=_plan)
    pushing = commands.add_parser("push", parents=[build, common, sending], help="publish in one commit, and verify")
    pushing.add_argument(
        "--gated",
        choices=("auto", "manual"),
        help="let only those have the files who accept the card's terms, or are let in by hand",
    )
    pushing.set_defaults(run=_push)
    commands.add_parser("status", parents=[build, common], help="compare the repository with DIR").set_defaults(run=_status)
    commands.add_parser("verify", parents=[build, common], help="compare every size and sha256").set_defaults(run=_verify)
    rollback = commands.add_parser("rollback", parents=[build, common], help="undo the last push of DIR by a new commit")
    rollback.add_argument("--to", metavar="REVISION", help="a commit or tag (default: what was there before the last push)")
    rollback.set_defaults(run=_rollback)
    space_command.add(commands, common, sending)


def _prepare(options: argparse.Namespace) -> tuple[Release, str, tuple[ReleaseFile, ...], list[str]]:
    """The release, its main card, all its files, and why it must not be published."""
    links = Links(options.sibling, options.new_version, options.code)
    if links.code and not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+/?", links.code):
        raise PublishError(
            f"--code is {links.code!r}; expected an address that `git clone` takes, as in https://example.org/me/tool"
        )
    release = read_release(options.folder, _announce)
    texts = cards(release, options.repo, links)
    return release, texts[CARD], complete(release, texts), release_problems(release, texts)


def _announce(path: str, size: int) -> None:
    say(f"checking {path} ({byte_text(size)})", to="err")


def _plan(options: argparse.Namespace) -> int:
    release, card, files, problems = _prepare(options)
    plan = make_plan(options.repo, files, remote=None)
    if options.card:
        options.card.write_text(card, encoding="utf-8", newline="\n")
    show.print_plan(plan, release, card, problems, options.json)
    return 0


def _push(options: argparse.Namespace) -> int:
    release, card, files, problems = _prepare(options)
    if problems:
        raise PublishError(f"this is not published: {'; '.join(problems)}")
    hub = _hub(options)
    message = f"{release.variant}{f', {options.tag}' if options.tag else ''}, by Ideogram Q8 {TOOL_VERSION}"
    order = PushOrder(
        files, message, options.private, options.prune, options.tag, options.collection, options.parent, gated=options.gated
    )
    if options.dry_run:
        plan, _ = consult(hub, order)
        show.print_plan(plan, release, card, problems, options.json)
        return 0
    outcome = push(hub, order, show.print_progress)
    what = "is published" if outcome.changed else "was published already, nothing was sent"
    _record(options, hub, outcome, what, release)
    return 0


def _status(options: argparse.Namespace) -> int:
    _, _, files, _ = _prepare(options)
    hub = _hub(options)
    plan = make_plan(options.repo, files, hub.read(), consulted=True)
    show.print_status(plan, hub.url, options.json)
    return 0 if plan.is_done else 1


def _verify(options: argparse.Namespace) -> int:
    release, _, files, _ = _prepare(options)
    hub = _hub(options)
    remote = hub.read()
    if remote is None:
        raise PublishError(f"{options.repo} does not exist; publish it with `push`")
    outcome = Outcome(remote.head, None, False, verify(hub, files, remote.head), None)
    receipt = receipts.describe(hub, outcome, None, release.artifacts)
    if options.json:
        say_json(receipt.to_json())
    else:
        say(f"{hub.url} at {remote.head}: {len(receipt.files)} files verified by size and sha256")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    hub = _hub(options)
    target = options.to or receipts.before_last_push(options.folder, hub)
    outcome = roll_back(hub, target, f"Back to {target[:12]}, by Ideogram Q8 {TOOL_VERSION}")
    _record(options, hub, outcome, f"is what it was at {target[:12]}", None)
    return 0


def _record(options: argparse.Namespace, hub: Hub, outcome: Outcome, what: str, release: Release | None) -> None:
    """Writes the receipt and prints it."""
    tag = options.tag if release else None
    receipt, path = receipts.record(options.folder, hub, outcome, tag, release.artifacts if release else {})
    show.print_receipt(receipt, what, str(path), options.json)


def _hub(options: argparse.Namespace) -> Hub:
    return Hub(options.repo, revision=options.revision)
