"""Prints lines for people. Whatever is in a line, from whichever file, a terminal shows it and does not obey it."""

from __future__ import annotations

import sys
from typing import Literal

from ideogram_q8.errors import printable
from ideogram_q8.machine.console import portable


def say(*lines: str, to: Literal["out", "err"] = "out") -> None:
    """Prints each of `lines` as one line, what is not printable in it escaped: also a newline, so that no file adds a line of its own."""
    stream = sys.stdout if to == "out" else sys.stderr
    print(*map(printable, lines), sep="\n", file=stream, flush=True)


def say_text(text: str, to: Literal["out", "err"] = "out") -> None:
    """Prints a text made of lines here: tables, cards, JSON. Its newlines stand; everything else is as in `say`."""
    say(*text.removesuffix("\n").split("\n"), to=to)


def say_json(text: str) -> None:
    """Prints JSON: what is not printable in it, or what the output's encoding lacks, becomes JSON's own escape: the value stays."""
    text = portable(text)
    say_text("".join(c if c.isprintable() or c == "\n" else _escaped(ord(c)) for c in text))


def _escaped(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
