"""What was noticed in a caption: where, of which kind, in words, and which of the writer's words are no longer in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ideogram_q8.captions.json_form import Issue
from ideogram_q8.errors import printable

Kind = Literal["taken out", "converted", "added", "moved", "left out", "fault", "warning"]
_SHOWN = 60
"""Characters of a text that a message quotes."""


@dataclass(frozen=True)
class Finding:
    """One thing that was done to a caption, or that is wrong with it.

    `place` is a path such as `style_description.color_palette[2]`, empty for the whole caption. `values` are the strings that stood
    there and are not in the caption any more, each whole.
    """

    place: str
    kind: Kind
    message: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.place or 'caption'}: {self.message}"


def of_issue(issue: Issue) -> Finding:
    """What the linter found, as a fault or a warning."""
    return Finding(issue.path, "fault" if issue.severity == "error" else "warning", issue.message)


def strings_in(value: object) -> tuple[str, ...]:
    """All strings in a JSON value in reading order, keys left aside."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list | dict):
            todo += reversed(list(item.values()) if isinstance(item, dict) else item)
    return tuple(found)


def quoted(value: object) -> str:
    """A value in one line of a message, cut short; it may come from a stranger's file."""
    text: Any = (
        value if isinstance(value, str) else ", ".join(strings_in(value)) if isinstance(value, list | dict) else repr(value)
    )
    return repr(printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"))
