"""Every fault at every kind of request of a push, what the user sees of it, and what it leaves: model_cards/publishing-faults.md.

python -m tests.hub.fault_table    # writes the table anew
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ideogram_q8.publishing.pushing import hub as client
from tests.hub.faults import Fault, Request
from tests.hub.scene import Scene, connected, plain

TABLE = Path(__file__).resolve().parents[2] / "model_cards" / "publishing-faults.md"
PLACES = {
    "whose token": ("GET", "/whoami-v2"),
    "what is there": ("GET", "/revision/main"),
    "how to send": ("POST", "/preupload/"),
    "where to send": ("POST", "/objects/batch"),
    "sending": ("PUT", "/storage/"),
    "did it arrive": ("POST", "/verify"),
    "is the card sound": ("POST", "/validate-yaml"),
    "commit": ("POST", "/commit/main"),
    "proof: list": ("GET", "/revision/COMMIT"),
    "proof: read back": ("GET", "/resolve/"),
    "tag": ("POST", "/tag/"),
    "collection": ("POST", "/api/collections"),
}
"""The kinds of requests of a push, by what they are for, in their order."""
WHOSE_FAULT = tuple(Fault("status", status) for status in (401, 403))
NOT_EVERYWHERE = tuple(Fault("status", status) for status in (402, 404, 409, 412))
"""Where a request of each sort stands for the others."""
SOME = ("what is there", "how to send", "sending", "commit", "tag")
PASSING = (Fault("hang"), Fault("lose answer"), Fault("truncate"))
LASTING = (Fault("status", 429), Fault("status", 500), Fault("close"))
WORDS = {
    "hang": "no answer, once",
    "lose answer": "carried out, the answer lost, once",
    "truncate": "cut off in the middle, once",
    "short": "half of the bytes stored and called a success, once",
    "close": "no connection from then on",
}
TIMEOUT, HANG_TIMEOUT = 30.0, 0.25
"""Seconds that the client waits: long, so that a busy machine adds no faults of its own, but where an answer is to be missed."""

HEAD = """# What can go wrong in a push

Made by `python -m tests.hub.fault_table`, which injects each fault at each kind of request of a push (a repository with an older release in
it, two large and two small files, a tag, a collection) into a Hub on this machine, with the real `huggingface_hub` client; a test does the
same and compares. After every fault the repository holds the old release or the new one, whole, never a mixture, and the same command again
ends with the new release in place, without sending a second time what had arrived.

## What the user sees

The line begins with what was being done, as in "sending ideogram4-Q8_0.gguf to someone/ideogram-4-gguf failed".

| fault | and goes on |
|---|---|
"""
MATRIX = """
## What the repository holds afterwards

`-` means that the user sees nothing but a longer wait: it was tried again, and the new release is in place.

"""


class Row(NamedTuple):
    """One fault at one request. `sees` is "" where the push succeeded all the same; `again` is what the same command says then."""

    fault: str
    place: str
    sees: str
    holds: str
    whole: bool
    again: str
    finally_holds: str


def first_requests(scene: Scene) -> dict[str, Request]:
    """The first request of each of PLACES in an undisturbed push."""
    scene.restore()
    assert scene.push() == ""
    seen = [request._replace(path=plain(request.path, scene.hub)) for request in scene.hub.script.seen]
    return {name: next(r for r in seen if r.method == method and part in r.path) for name, (method, part) in PLACES.items()}


def rows(scene: Scene) -> Iterator[Row]:
    """All faults at all places."""
    requests = first_requests(scene)
    for fault in (*WHOSE_FAULT, *NOT_EVERYWHERE, *PASSING, *LASTING):
        for place in SOME if fault in NOT_EVERYWHERE else PLACES:
            yield _row(scene, fault, place, requests[place].number)
    yield _row(scene, Fault("short"), "sending", requests["sending"].number)


def _row(scene: Scene, fault: Fault, place: str, number: int) -> Row:
    scene.restore()
    if fault in LASTING:
        scene.hub.script.always = (number, fault)
    else:
        scene.hub.script.at[number] = fault
    client.TIMEOUT = HANG_TIMEOUT if fault.kind == "hang" else TIMEOUT
    sees, holds, whole = scene.push(), scene.state(), scene.is_whole()
    scene.hub.script.always, scene.hub.script.at = None, {}
    again = scene.push() if sees else ""
    word = f"status {fault.status}" + (" from then on" if fault in LASTING else "")
    return Row(WORDS.get(fault.kind, word), place, plain(sees, scene.hub), holds, whole, again, scene.state())


def render(found: list[Row]) -> str:
    """Two tables: what each fault is called, and what it leaves at each place."""
    faults = list(dict.fromkeys(row.fault for row in found))
    told = {fault: dict.fromkeys(_told(row) for row in found if row.fault == fault and row.sees) for fault in faults}
    lines = [f"| {fault} | {' / '.join(told[fault]) or 'nothing'} |\n" for fault in faults]
    cells = {(row.fault, row.place): row.holds if row.sees else "-" for row in found}
    matrix = ["| fault at | " + " | ".join(PLACES) + " |\n", "|---" * (len(PLACES) + 1) + "|\n"]
    matrix += [f"| {fault} | {' | '.join(cells.get((fault, place), '') for place in PLACES)} |\n" for fault in faults]
    return HEAD + "".join(lines) + MATRIX + "".join(matrix)


def _told(row: Row) -> str:
    """The end of the line: what happened and what to do."""
    return re.sub(
        r" \(injected \d+\)|[A-Za-z]+Error: .*?; check",
        lambda m: "check" if m[0][0] != " " else "",
        row.sees.split(" failed", 1)[1],
    ).strip(" :")


def main() -> int:
    warnings.filterwarnings("ignore", "Use 'content=")
    with tempfile.TemporaryDirectory() as folder, connected(Path(folder)) as hub:
        hub.hang = 2 * HANG_TIMEOUT
        TABLE.write_text(render(list(rows(Scene(hub, Path(folder))))), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
