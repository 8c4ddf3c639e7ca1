"""The caption that an argument is, or that is in the file it names; for the verbs that take one."""

from __future__ import annotations

import re
from pathlib import Path

from ideogram_q8.captions import MAX_CHARACTERS, accept
from ideogram_q8.errors import CaptionError, RequestError
from ideogram_q8.machine.terminal import say

_SUFFIXES = (".json", ".jsonl", ".txt", ".md", ".yaml", ".yml")
_ROOTED = re.compile(r"(~|\.{1,2})?[/\\]\S|[A-Za-z]:[/\\]\S")


def read_caption(argument: str) -> str:
    """The content of the file that `argument` names, or else `argument` itself.

    Raises:
        RequestError: a file that is not UTF-8 text, cannot be read or is too long, or what looks like a path without a file.
    """
    path = Path(argument)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # too long or too strange for a file name, or in a folder that may not be read
        is_file = False
    if not is_file:
        if _is_path(argument):
            raise RequestError(f"{argument}: there is no such caption file; check the name, or write a sentence")
        return argument
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text; save the caption as UTF-8") from None


def _is_path(argument: str) -> bool:
    """Whether a text is written as a path: without blanks it begins at a root, or it ends as caption files do.

    With blanks in it, it also has a separator of folders; `a file named poster.json` is a sentence.
    """
    if len(argument) > 4096 or argument.lstrip().startswith(("{", "[", "<", "`")) or "\n" in argument:
        return False
    has_blank = any(character.isspace() for character in argument)
    has_suffix = argument.strip().lower().endswith(_SUFFIXES)
    if has_blank:
        return has_suffix and ("/" in argument or "\\" in argument)
    return has_suffix or _ROOTED.match(argument) is not None


def accepted(text: str, argument: str, size: str | None = None) -> str:
    """The sound caption in a text; prints what it stood in, and warnings, on standard error.

    Args:
        argument: what the user gave for it, a file's name or the text itself.
        size: as the user gave it.

    Raises:
        CaptionError: there is none, or it has faults; where they can be mended, the message has the command for it.
    """
    try:
        caption, found = accept(text)
    except CaptionError as error:
        offer = f"; see how it can be mended: {mending(argument, size)}" if error.is_mendable else ""
        raise CaptionError(f"{error}{offer}", error.problems) from None
    for finding in found:
        say(f"warning: {finding}", to="err")
    return caption


def mending(argument: str, size: str | None = None) -> str:
    """The command that shows a caption mended."""
    what = argument if len(argument) <= 60 and argument.isprintable() and " " not in argument else "FILE"
    return f"python -m ideogram_q8 caption {what}{f' --size {size}' if size else ''} --mend"
