"""What can go wrong on the way to the Hub, at the n-th request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["status", "hang", "close", "lose answer", "truncate", "short", "break", "call", "kill"]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a request.

    status          it is answered with `status` and not carried out
    hang            nothing happens for longer than a client waits, then the connection closes
    close           the connection closes before anything is carried out
    lose answer     it is carried out, the connection closes instead of an answer
    truncate        the connection closes in the middle of the body
    short           half the body is stored, the answer is success
    break           the connection closes in the middle of the answer
    call            `call` runs, then the request is carried out
    kill            `call` runs, and the request is not carried out
    """

    kind: Kind
    status: int = 0
    call: Callable[[], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"status {self.status}" if self.kind == "status" else self.kind


class Request(NamedTuple):
    """A request as it was counted: `number` starts at 1."""

    number: int
    method: str
    path: str


@dataclass
class Script:
    """Which faults happen: `at` by request number, `always` from number on, `when` by what a request is, a limited number of times."""

    at: dict[int, Fault] = field(default_factory=dict)
    always: tuple[int, Fault] | None = None
    when: list[tuple[str, str, Fault]] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)

    def take(self, method: str, path: str) -> Fault | None:
        """Counts the request and says what happens to it."""
        number = len(self.seen) + 1
        self.seen.append(Request(number, method, path))
        if self.always and number >= self.always[0]:
            return self.always[1]
        for rule in self.when:
            if rule[0] == method and rule[1] in path:
                self.when.remove(rule)
                return rule[2]
        return self.at.get(number)
