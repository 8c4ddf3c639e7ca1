"""The end of a run in words: each phase with what became of it, each aim with its verdict, and what was refused, missing or broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ideogram_q8.bench.card.aims import AIMS, Facts, judged
from ideogram_q8.bench.card.lines import CardLine
from ideogram_q8.bench.card.phases import PHASES

_MOST_REASON, _MOST_NAMES = 160, 3
"""Characters of a reason, and names with the same one, that are shown; the file has all."""


def text(lines: Sequence[CardLine]) -> str:
    """Tables in Markdown of all lines of a folder, the newest of each name counting."""
    facts = Facts.of(lines)
    aims = [(aim.text, *judged(aim, facts)) for aim in AIMS]
    card = facts.card[0] or "no card: a rehearsal"
    stack = lines[-1].stack if lines else ""
    parts = [
        f"{card}; {stack}",
        _grid(("phase", "state", "seconds", "measured", "not measured", "note"), _phases(lines)),
        _grid(("aim", "verdict", "found"), aims),
    ]
    others = list(_others(lines))
    return "\n\n".join([*parts, *([_grid(("not measured, or wrong", "state", "reason"), others)] if others else [])])


def _phases(lines: Sequence[CardLine]) -> Iterator[tuple[str, ...]]:
    for phase in PHASES:
        own = [line for line in lines if line.phase == phase.name]
        ends = [line for line in own if not line.name and line.state not in ("planned", "kept")]
        last = {line.name: line for line in own if line.name}
        done = sum(line.state == "done" for line in last.values())
        if not own:
            yield phase.name, "not run", "", "", "", ""
            continue
        end = ends[-1] if ends else None
        state, reason = ("unfinished", "") if end is None else (end.state, _short(end.reason))
        seconds = "" if end is None else f"{end.seconds:.1f}"
        yield phase.name, state, seconds, str(done), str(len(last) - done), reason


def _others(lines: Sequence[CardLine]) -> Iterator[tuple[str, ...]]:
    """What has no measurement or a wrong one, the newest word about each; those of one phase and reason together."""
    last = {(line.phase, line.name): line for line in lines if line.name}
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (phase, name), line in last.items():
        if line.state != "done":
            alike.setdefault((phase, line.state, _short(line.reason)), []).append(name)
    for (phase, state, reason), names in alike.items():
        more = f"; and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield f"{phase}: {'; '.join(names[:_MOST_NAMES])}{more}", state, reason


def _short(reason: str) -> str:
    shown = reason.replace("|", "/")
    return shown if len(shown) <= _MOST_REASON else f"{shown[:_MOST_REASON]} ..."


def _grid(head: tuple[str, ...], rows: Sequence[tuple[str, ...]] | Iterator[tuple[str, ...]]) -> str:
    from ideogram_q8.bench.tables import grid

    return grid(head, rows)
