"""What the publishing command prints, for people and as JSON. Pure but for what is called print."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ideogram_q8.errors import printable
from ideogram_q8.formats.quantities import byte_text, duration
from ideogram_q8.machine.terminal import say, say_json, say_text
from ideogram_q8.publishing.pushing.plan import PushPlan
from ideogram_q8.publishing.pushing.receipts import Receipt
from ideogram_q8.publishing.pushing.sending import PushProgress
from ideogram_q8.publishing.release import CARD, Release

NOT_CONSULTED = "the remote was not consulted: sizes are what an empty repository would take"
_SAME_WORDS = {"upload": "missing", "replace": "differs", "skip": "same"}


def plan_text(plan: PushPlan, release: Release, card: str, problems: list[str]) -> str:
    """The plan for people."""
    head = f"A push of {release.variant} to {plan.repo} would send {byte_text(plan.upload_bytes)}:"
    lines = [head, "", *_file_lines(plan, {}), "", f"licence: {release.licence.title}"]
    if not plan.consulted:
        lines.append(f"note: {NOT_CONSULTED}")
    elif plan.parent is None:
        lines.append(f"note: {plan.repo} does not exist yet and would be made")
    lines += [f"on top of commit {plan.parent}"] if plan.parent else []
    lines += [f"note: left alone, since it is not of this release: {path}" for path in plan.others]
    lines += [f"note: {note}" for note in release.notes]
    lines += [f"push would refuse: {problem}" for problem in problems]
    return "\n".join([*map(printable, lines), "", f"--- {CARD} ---", card])


def _file_lines(plan: PushPlan, words: Mapping[str, str]) -> list[str]:
    width = max(len(path) for path in (*(planned.file.path for planned in plan.files), *plan.removed))
    lines = [
        f"  {words.get(p.action, p.action):8} {p.file.path:{width}} {byte_text(p.file.size):>11}  sha256 {p.file.sha256}"
        for p in plan.files
    ]
    return lines + [f"  {'delete':8} {path}" for path in plan.removed]


def plan_json(plan: PushPlan, release: Release, card: str, problems: list[str]) -> str:
    """The plan for programs; sizes in bytes."""
    values = {
        **_plan_value(plan),
        "variant": release.variant,
        "artifact_sha256": release.builds[0].manifest.artifact_sha256,
        "artifacts": release.artifacts,
        "licence": release.licence.title,
        "notes": list(release.notes),
        "problems": problems,
        "card": card,
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def _plan_value(plan: PushPlan) -> dict[str, object]:
    files = [
        {"path": p.file.path, "size": p.file.size, "sha256": p.file.sha256, "action": p.action}
        for p in plan.files
    ]  # fmt: skip
    return {
        "repo": plan.repo,
        "remote": {"consulted": plan.consulted, "parent": plan.parent},
        "upload_bytes": plan.upload_bytes,
        "files": files,
        "removed": list(plan.removed),
        "others": list(plan.others),
    }


def status_text(plan: PushPlan, url: str) -> str:
    """How the repository compares with the folder, for people."""
    if plan.parent is None:
        return f"{url} does not exist yet"
    state = "holds exactly this" if plan.is_done else "differs from this"
    lines = [f"{url} at {plan.parent[:12]} {state}:", "", *_file_lines(plan, _SAME_WORDS)]
    return "\n".join(map(printable, lines + [f"  {'extra':8} {path}" for path in plan.others]))


def status_json(plan: PushPlan, url: str) -> str:
    """The same for programs."""
    return json.dumps({"url": url, "done": plan.is_done, **_plan_value(plan)}, indent=2, ensure_ascii=False)


def receipt_text(receipt: Receipt, what: str, where: str) -> str:
    """What was done, for people; `what` as in "is published"."""
    lines = [f"{receipt.url} {what}: commit {receipt.commit}, {len(receipt.files)} files verified by size and sha256"]
    lines += [f"tag: {receipt.tag}"] if receipt.tag else []
    lines += [f"collection: {receipt.collection}"] if receipt.collection else []
    return "\n".join(map(printable, [*lines, f"receipt: {where}"]))


def progress_text(progress: PushProgress) -> str:
    """'sending a.gguf; 1.20 GB of 5.00 GB sent, 80.00 MB/s, 48 s left'."""
    what = f"sending {progress.path}" if progress.path else "committing"
    parts = [f"{byte_text(progress.sent)} of {byte_text(progress.total)} sent"]
    if progress.rate:
        parts.append(f"{byte_text(progress.rate)}/s")
    if progress.seconds_left:
        parts.append(f"{duration(progress.seconds_left)} left")
    return f"{what}; {', '.join(parts)}"


def print_progress(progress: PushProgress) -> None:
    """Prints where a push is on standard error."""
    say(progress_text(progress), to="err")


def print_plan(plan: PushPlan, release: Release, card: str, problems: list[str], as_json: bool) -> None:
    """Prints the plan, for people or as JSON."""
    if as_json:
        say_json(plan_json(plan, release, card, problems))
    else:
        say_text(plan_text(plan, release, card, problems))


def print_status(plan: PushPlan, url: str, as_json: bool) -> None:
    """Prints how the repository compares with the folder, for people or as JSON."""
    if as_json:
        say_json(status_json(plan, url))
    else:
        say_text(status_text(plan, url))


def print_receipt(receipt: Receipt, what: str, where: str, as_json: bool) -> None:
    """Prints what was done, for people or as JSON."""
    if as_json:
        say_json(receipt.to_json())
    else:
        say_text(receipt_text(receipt, what, where))
