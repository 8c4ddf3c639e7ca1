"""The push itself: large files first, then one commit on top of the commit it was planned against, then the proof.

    plan ── upload the large files ── commit(parent = planned) ── compare every file at that commit ── tag ── collection
              │ killed: the next push       │ 412: somebody else committed. Their change and ours are
              │ finds them stored           │ apart: plan again; they overlap: refused
                                            │ no answer: look whether the commit is there

Until the commit nothing that anybody can see changes, except that a gate that was asked for closes first, and the commit changes all at
once: whatever goes wrong, the repository is as it was or as it shall be. `upload_folder` is not used, since it commits large folders in
parts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import CommitOperationAdd

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.pushing.hub import Hub, pause_before
from ideogram_q8.publishing.pushing.plan import KEPT, PushPlan, ReleaseFile, Remote, conflicts, make_plan
from ideogram_q8.publishing.pushing.refusals import HubError

LARGE = 1_000_000
"""Bytes from which a file is sent on its own before the commit, which carries the rest."""
ROUNDS = 4
"""How often a commit is tried: others commit at the same time, or its answer is lost."""

OnProgress = Callable[["PushProgress"], None]


@dataclass(frozen=True)
class PushProgress:
    """How far a push is.

    Attributes:
        path: the file that comes next, "" after the last.
        sent, total: bytes that the Hub has, and all bytes of the push.
        seconds: since the push began.
    """

    path: str
    sent: int
    total: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Bytes a second so far; None before the first file."""
        return self.sent / self.seconds if self.sent and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At that rate."""
        return (self.total - self.sent) / self.rate if self.rate else None


@dataclass(frozen=True)
class PushOrder:
    """What to push and how.

    Attributes:
        files: the whole release.
        message: the commit's title.
        private: a repository that must be made is made private; one that is public is refused.
        prune: delete what the repository holds beside the release.
        tag, collection: names, or None.
        expected: the commit that the branch must still be at, as an earlier plan said; None: whatever it is at.
        hardware: what a Space runs on.
        gated: how people come by the files, "auto" or "manual"; None leaves that as it is.
        read_back: download the small files to compare their sha256, not only what git calls them.
    """

    files: tuple[ReleaseFile, ...]
    message: str
    private: bool = False
    prune: bool = False
    tag: str | None = None
    collection: str | None = None
    expected: str | None = None
    hardware: str | None = None
    gated: Literal["auto", "manual"] | None = None
    read_back: bool = True


@dataclass(frozen=True)
class HeldFile:
    """A file at a commit: its size in bytes and sha256 as the Hub has them."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """What a push made: `parent` is what the branch was at before, None where the repository was made; `changed` if there is a commit."""

    commit: str
    parent: str | None
    changed: bool
    files: tuple[HeldFile, ...]
    collection_url: str | None


def consult(hub: Hub, order: PushOrder) -> tuple[PushPlan, Remote | None]:
    """The plan against the repository as it is now; sends nothing.

    Raises:
        PublishError: the token may not write there; the branch is not at the expected commit; the tag names another commit;
            the repository is public and must be private.
    """
    hub.check_writer()
    remote = hub.read()
    plan = make_plan(hub.repo, order.files, remote, consulted=True, prune=order.prune)
    head = remote.head if remote else None
    if order.expected and head != order.expected:
        raise PublishError(
            f"{hub.repo} has changed since the plan: it was at {order.expected[:12]}, it is {f'at {head[:12]}' if head else 'gone'}; "
            "look at what `push --dry-run` says now, and give its commit as --parent"
        )
    tagged = remote.tags.get(order.tag or "") if remote else None
    if tagged and not (plan.is_done and tagged == head):
        raise PublishError(
            f"tag {order.tag!r} of {hub.repo} is at {(tagged or '')[:12]} already and does not move; choose another --tag"
        )
    if order.private and remote and not remote.private:
        raise PublishError(f"{hub.repo} is public; leave out --private, or make it private in its settings first")
    return plan, remote


def push(hub: Hub, order: PushOrder, on_progress: OnProgress) -> Outcome:
    """Makes the repository hold the release, and proves that it does. What is there already is not sent again.

    Raises:
        PublishError: see `consult`; others changed the same files; what the Hub holds afterwards is not the release.
        HubError: a request failed.
    """
    plan, before = consult(hub, order)
    parent = before.head if before else None
    remote = before if before and before.on_branch else _prepared(hub, order, plan)
    if order.gated and remote.gated != order.gated:
        hub.gate(order.gated)  # before the files are there
    plan = make_plan(hub.repo, order.files, remote, prune=order.prune)
    commit = remote.head if plan.is_done else _send(hub, order, plan, remote, on_progress)
    files = verify(hub, order.files, commit, order.read_back)
    if order.hardware and parent:
        hub.set_hardware(order.hardware)
    if order.tag:
        hub.tag(order.tag, commit)
    collection = hub.collect(order.collection) if order.collection else None
    return Outcome(commit, parent, not plan.is_done, files, collection)


def _prepared(hub: Hub, order: PushOrder, plan: PushPlan) -> Remote:
    """The repository and its branch, made where they are missing; what they hold then."""
    if plan.parent is None:
        hub.create(order.private, order.hardware)
    if hub.revision != "main":
        hub.create_branch()
    remote = hub.read()
    if remote is None:
        raise PublishError(f"{hub.repo} was made and is not there; run the same command again")
    return remote


def _send(hub: Hub, order: PushOrder, plan: PushPlan, remote: Remote, on_progress: OnProgress) -> str:
    """Uploads and commits; the commit. Tried again where the answer was lost, planned again where others came between."""
    stored: dict[str, CommitOperationAdd] = {}
    for attempt in range(1, ROUNDS + 1):
        _upload(hub, plan, stored, on_progress)
        made = _try_commit(hub, order, plan, stored)
        if isinstance(made, str):
            return made
        now = hub.read() if made.status == 412 or made.is_transient else None
        if now is None:
            raise made
        again = make_plan(hub.repo, order.files, now, prune=order.prune)
        if again.is_done:  # the commit was made, its answer was lost
            return now.head
        if attempt == ROUNDS:
            raise made
        _check_apart(hub, plan, remote, now)
        plan, remote = again, now
        time.sleep(pause_before(attempt))
    raise AssertionError("the last attempt returns or raises")


def _try_commit(hub: Hub, order: PushOrder, plan: PushPlan, stored: Mapping[str, CommitOperationAdd]) -> str | HubError:
    """The commit, or why there is none as far as is known."""
    assert plan.parent is not None
    try:
        return hub.commit([stored.get(file.path, file) for file in plan.sent], plan.removed, plan.parent, order.message)
    except HubError as error:
        return error


def _upload(hub: Hub, plan: PushPlan, stored: dict[str, CommitOperationAdd], on_progress: OnProgress) -> None:
    """Sends the large files, the largest first."""
    large = [file for file in plan.sent if file.size >= LARGE and file.path not in stored]
    begin, sent, total = time.monotonic(), 0, sum(file.size for file in large)
    for file in large:
        on_progress(PushProgress(file.path, sent, total, time.monotonic() - begin))
        stored[file.path] = hub.upload(file)
        sent += file.size
    on_progress(PushProgress("", sent, total, time.monotonic() - begin))


def _check_apart(hub: Hub, plan: PushPlan, before: Remote, now: Remote) -> None:
    both = conflicts(plan, before, now)
    if both:
        raise PublishError(
            f"somebody else has changed {', '.join(both)} of {hub.repo} meanwhile (now at {now.head[:12]}), nothing was "
            "overwritten; look at what `push --dry-run` says now, then run the same command again if yours shall replace theirs"
        )


def verify(hub: Hub, files: Sequence[ReleaseFile], commit: str, read_back: bool = True) -> tuple[HeldFile, ...]:
    """Compares size and sha256 of every file at a commit with the release's; small ones are downloaded for it, if `read_back`.

    Raises PublishError naming all that differ.
    """
    remote = hub.read(commit)
    if remote is None:
        raise PublishError(f"{hub.repo} does not exist")
    problems = [problem for file in files if (problem := _difference(hub, file, remote, read_back))]
    if problems:
        raise PublishError(
            f"{hub.repo} at {commit[:12]} does not hold what was published: {'; '.join(problems)}; run `push` again, or `rollback`"
        )
    return tuple(HeldFile(file.path, file.size, file.sha256) for file in files)


def _difference(hub: Hub, file: ReleaseFile, remote: Remote, read_back: bool) -> str:
    """How a file at a commit differs from the release's, "" if it does not."""
    there = remote.files.get(file.path)
    if there is None:
        return f"{file.path} is missing"
    if there.size != file.size:
        return f"{file.path} has {there.size:,} bytes instead of {file.size:,}"
    if there.sha256 or not read_back:
        return "" if there.holds(file) else f"{file.path} has other bytes"
    sha256 = hashlib.sha256(hub.content(file.path, remote.head, there.size)).hexdigest()
    return "" if sha256 == file.sha256 else f"{file.path} has sha256 {sha256[:12]}... instead of {file.sha256[:12]}..."


def roll_back(hub: Hub, target: str, message: str) -> Outcome:
    """A new commit that makes the branch what it was at `target`; history stays. Nothing is sent: the Hub has it all.

    Raises:
        PublishError: there is no such commit, or what the Hub holds afterwards differs from it.
        HubError: a request failed, also because somebody else committed meanwhile.
    """
    hub.check_writer()
    now, then = hub.read(), hub.read(target)
    if now is None or then is None:
        raise PublishError(f"{hub.repo} does not exist, so there is nothing to roll back; check --repo")
    copied = sorted(path for path, file in then.files.items() if now.files.get(path) != file and path != KEPT)
    removed = sorted(set(now.files) - set(then.files) - {KEPT})
    changed = bool(copied or removed)
    commit = hub.restore(copied, then.head, removed, now.head, message) if changed else now.head
    after = hub.read(commit)
    if after is None or {**after.files, KEPT: None} != {**then.files, KEPT: None}:
        raise PublishError(
            f"{hub.repo} at {commit[:12]} is not what it was at {then.head[:12]}; look at its history on the Hub"
        )
    files = tuple(
        HeldFile(p, f.size, f.sha256 or hashlib.sha256(hub.content(p, commit, f.size)).hexdigest())
        for p, f in sorted(after.files.items())
        if p != KEPT
    )
    return Outcome(commit, now.head, changed, files, None)
