"""Which texts of files from elsewhere count as a name, a version, a revision, a path or a line. Pure.

Manifests, reports, recipes and listings come from strangers, and their texts end up in file names, commands, cards and terminals. Each
text has a kind here, so that a file that holds something else is refused where it is read.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,._+-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_IN_PATHS = re.compile(r'[\\<>:"|?*`]')
"""What no file name on Windows may hold, and the backtick of shells and Markdown."""


def is_name(text: str) -> bool:
    """Whether a text is a short name: letters, digits, spaces and ``,._+-``, beginning with a letter or digit."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether a text can be a package's version: ``2.13.0+cpu``."""
    return _VERSION.fullmatch(text) is not None


def is_revision(text: str) -> bool:
    """Whether a text can be a branch, tag or commit: it begins with a letter or digit and is a name that git takes.

    The rules are those of ``git check-ref-format`` (https://git-scm.com/docs/git-check-ref-format), for ASCII only. Revisions become
    paths in caches and parts of addresses, so a leading ``/`` or ``-`` must not pass.
    """
    if _REVISION.fullmatch(text) is None or ".." in text:
        return False
    return all(part and not part.startswith(".") and not part.endswith((".", ".lock")) for part in text.split("/"))


def is_sha256(text: str) -> bool:
    """Whether a text is a sha256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def is_line(text: str, longest: int) -> bool:
    """Whether a text is one printable line of 1 to ``longest`` characters."""
    return 0 < len(text) <= longest and text.isprintable()


def is_inner_path(text: str) -> bool:
    """Whether a text is a relative path with ``/`` that stays in its folder and can be a file's on every system."""
    if not is_line(text, 1000) or _NOT_IN_PATHS.search(text):
        return False
    return all(part not in ("", ".", "..") for part in text.split("/"))
