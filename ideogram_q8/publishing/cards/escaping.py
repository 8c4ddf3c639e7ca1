"""How text from manifests, reports and folders stands on a card: as itself where it is harmless, else as code that nothing obeys.

A template's values go through ``finish``: what is not marked as ``Markdown``, which only this package's own sentences are, is escaped,
so that a field that somebody adds to a template later is escaped as well. A backslash or an entity would not do: the Hub's renderer makes
links of bare addresses after it has resolved both. A code span is the one place where Markdown reads nothing.
"""

from __future__ import annotations

import html
import re
import shlex
import urllib.parse

from jinja2 import Undefined

from ideogram_q8.errors import printable

_ACTIVE = re.compile(r"[\\`*<>\[\]{}#~$&]|://|www\.|@\S|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", re.IGNORECASE)
"""What CommonMark, GitHub's extensions of it, or the Hub's formulas and mentions give a meaning inside a line."""


class Markdown(str):
    """Text that stands on a card as it is: written here, with every foreign part of it escaped."""


def flat(value: object) -> str:
    """One printable line: whitespace becomes single spaces, what is not printable its escape."""
    return printable(" ".join(str(value).split()))


def text(value: object) -> Markdown:
    """A foreign text in a sentence or a table: itself where nothing in it means anything to Markdown, else a code span."""
    line = flat(value)
    return code(line) if _ACTIVE.search(line) else Markdown(line.replace("|", "\\|"))


def code(value: object) -> Markdown:
    """A foreign text as a code span, also in a table."""
    line = flat(value).replace("`", "'").replace("|", "\\|")
    return Markdown(f"`{line or ' '}`")


def attribute(value: object) -> Markdown:
    """A foreign text between the double quotes of an HTML attribute."""
    return Markdown(html.escape(flat(value)))


def address(value: object) -> Markdown:
    """A foreign text as a part of an address, whose slashes stay."""
    return Markdown(urllib.parse.quote(str(value).encode("utf-8", "replace"), safe="/"))


def word(value: object) -> Markdown:
    """A foreign text as one word of a shell command, inside a block of code."""
    return Markdown(shlex.quote(flat(value).replace("`", "'")))


def finish(value: object) -> object:
    """What a template puts out for a value: numbers and ``Markdown`` as they are, everything else escaped."""
    return value if isinstance(value, Markdown | int | float | Undefined) else text(value)
