"""The publishing command: `python publish/push.py plan DIR --repo NAME/REPO [--card FILE] [--json]`.

`plan` checks DIR (an artifact with its manifest.json and, if measured, report.json) and prints what a push would send and the
card it would show. It needs no network and no token. Exit code 0, or 2 with one line on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the repository's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ideogram_q8.errors import IdeogramQ8Error, printable
from publish.card import byte_text, render
from publish.plan import Plan, check_repo, make_plan
from publish.release import CARD, Release, complete, measured_variant, read_release

NOT_CONSULTED = "the remote was not consulted: sizes are what an empty repository would take"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _plan(options)
    except (IdeogramQ8Error, OSError) as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="push.py", description="Publish a quantized build on the Hugging Face Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="check a build and print what a push would do; sends nothing, needs no token")
    plan.add_argument(
        "folder", metavar="DIR", type=Path, help="artifact folder: manifest.json, weights, optionally report.json"
    )
    plan.add_argument("--repo", required=True, metavar="NAME/REPO", help="the repository on the Hub")
    plan.add_argument("--card", metavar="FILE", type=Path, help="also write the rendered card to FILE")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    return parser


def _plan(options: argparse.Namespace) -> None:
    check_repo(options.repo)  # before minutes of hashing
    release = read_release(options.folder, _announce)
    measured = measured_variant(release.manifest, release.report)
    card = render(release.manifest, release.report, measured, release.licence, options.repo)
    plan = make_plan(options.repo, complete(release, card), remote=None)
    if options.card:
        options.card.write_text(card, encoding="utf-8", newline="\n")
    print(plan_json(plan, release, card) if options.json else plan_text(plan, release, card))


def _announce(path: str, size: int) -> None:
    print(f"checking {path} ({byte_text(size)})", file=sys.stderr)


def plan_text(plan: Plan, release: Release, card: str) -> str:
    """The plan for people."""
    width = max(len(planned.file.path) for planned in plan.files)
    lines = [f"A push of {release.manifest.variant} to {plan.repo} would send {byte_text(plan.upload_bytes)}:", ""]
    for planned in plan.files:
        file = planned.file
        lines.append(f"  {planned.action:8} {file.path:{width}} {byte_text(file.size):>11}  sha256 {file.sha256}")
    lines += ["", f"licence: {release.licence.title}"] + ([f"note: {NOT_CONSULTED}"] if plan.parent is None else [])
    lines += [f"note: {note}" for note in release.notes]
    return "\n".join([*lines, "", f"--- {CARD} ---", card])


def plan_json(plan: Plan, release: Release, card: str) -> str:
    """The plan for programs; sizes in bytes."""
    files = [
        {"path": p.file.path, "size": p.file.size, "sha256": p.file.sha256, "action": p.action}
        for p in plan.files
    ]  # fmt: skip
    values = {
        "repo": plan.repo,
        "remote": {"consulted": plan.parent is not None, "parent": plan.parent},
        "variant": release.manifest.variant,
        "artifact_sha256": release.manifest.artifact_sha256,
        "licence": release.licence.title,
        "upload_bytes": plan.upload_bytes,
        "files": files,
        "notes": list(release.notes),
        "card": card,
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
