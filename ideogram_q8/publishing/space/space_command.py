"""`push.py space`: reads the chosen builds' manifests from the Hub, puts the Space together, starts it, and pushes it."""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import FILE_NAME as MANIFEST
from ideogram_q8.formats.manifest import TOOL_VERSION, Manifest
from ideogram_q8.formats.report import FILE_NAME as REPORT
from ideogram_q8.formats.report import Report
from ideogram_q8.machine.terminal import say
from ideogram_q8.publishing.cards.licence import IDEOGRAM, NOTICE_FILE
from ideogram_q8.publishing.project import PROJECT, check_checkout
from ideogram_q8.publishing.pushing import receipts, show
from ideogram_q8.publishing.pushing.checks import endorsements
from ideogram_q8.publishing.pushing.hub import MAIN, Hub
from ideogram_q8.publishing.pushing.plan import check_reference, check_repo
from ideogram_q8.publishing.pushing.sending import PushOrder, consult, push
from ideogram_q8.publishing.space.space import HARDWARE, PYTHON, SpaceBuild, assemble, files_of
from ideogram_q8.publishing.space.space_start import check_fresh, check_start

_LARGEST = 64 << 20
"""Bytes of a manifest, report or licence text."""


def add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    sending: argparse.ArgumentParser,
) -> None:
    """Registers the command."""
    parser = commands.add_parser(
        "space", parents=[common, sending], help="put the app together as a Space, start it, publish it"
    )
    parser.add_argument("--hardware", required=True, choices=HARDWARE, help="what the Space runs on")
    parser.add_argument(
        "--variant", metavar="NAME/REPO[@REVISION]", action="append", default=[], help="a published build to offer; repeatable"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="where it is put together (default: the Space's name, here)")
    parser.add_argument(
        "--check",
        choices=("fresh", "here"),
        default="fresh",
        help="start it in a new virtual environment of its requirements (default), or with this Python",
    )
    parser.add_argument(
        "--python", metavar="FILE", default=f"python{PYTHON}", help="what --check fresh makes it with (default: %(default)s)"
    )
    parser.add_argument(
        "--visitors-log-in",
        action="store_true",
        help="on ZeroGPU: paint only for those who have accepted the terms of the gated weights themselves",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Raises PublishError, ArtifactError."""
    check_checkout(PROJECT, "space")
    folder = options.out or Path(options.repo.split("/")[1])
    builds = [read_build(text) for text in options.variant]
    assemble(folder, options.hardware, builds, options.visitors_log_in)
    problems = list(endorsements((folder / "README.md").read_text(encoding="utf-8")))
    if problems:
        raise PublishError(f"this is not published: {'; '.join(problems)}")
    entry = HARDWARE[options.hardware].entry
    say(f"starting the Space from {folder}", to="err")
    if options.check == "fresh":
        check_fresh(folder, entry, metadata.version("gradio"), options.python)
    else:
        check_start(folder, entry)
    return _publish(options, folder)


def read_build(text: str) -> SpaceBuild:
    """The build that NAME/REPO or NAME/REPO@REVISION names. Raises PublishError, ArtifactError."""
    repo, _, revision = text.partition("@")
    check_repo(repo, "--variant")
    check_reference(revision or MAIN, "--variant")
    hub = Hub(repo, revision=revision or MAIN)
    remote = hub.read()
    if remote is None or MANIFEST not in remote.files:
        raise PublishError(
            f"{repo} is not a build that `push` has published: it does not exist or has no {MANIFEST}; check --variant"
        )

    def content(name: str) -> str:
        size = remote.files[name].size
        if size > _LARGEST:
            raise PublishError(f"{name} of {repo} has {size} bytes; expected {_LARGEST} at most of such a file")
        try:
            return hub.content(name, remote.head, size).decode()
        except UnicodeDecodeError:
            raise PublishError(f"{name} of {repo} is not UTF-8 text; whoever published it must push it again") from None

    report = Report.from_json(content(REPORT)) if REPORT in remote.files else None
    texts = {name: content(name) for name in (IDEOGRAM.copy_file, NOTICE_FILE) if name in remote.files}
    return SpaceBuild(repo, remote.head, Manifest.from_json(content(MANIFEST)), report, texts)


def _publish(options: argparse.Namespace, folder: Path) -> int:
    hub = Hub(options.repo, "space", options.revision)
    order = PushOrder(
        tuple(files_of(folder)),
        f"Ideogram Q8 {TOOL_VERSION} for {options.hardware}",
        private=options.private,
        prune=True,  # the folder is the whole Space
        tag=options.tag,
        collection=options.collection,
        expected=options.parent,
        hardware=options.hardware,
        read_back=False,
    )
    if options.dry_run:
        plan, _ = consult(hub, order)
        show.print_status(plan, hub.url, options.json)
        return 0
    outcome = push(hub, order, show.print_progress)
    receipt, path = receipts.record(folder, hub, outcome, options.tag, {})
    if (folder / NOTICE_FILE).is_file():
        say(f"the Space reads gated weights: put a token that may into its secret HF_TOKEN, at {hub.url}/settings", to="err")
    what = "is published" if outcome.changed else "was published already, nothing was sent"
    show.print_receipt(receipt, what, str(path), options.json)
    return 0
