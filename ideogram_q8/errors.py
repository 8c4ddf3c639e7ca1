"""The exceptions of this package.

    IdeogramQ8Error            anything this package refuses; its text says what was got, what was expected, what to do
    ├── RequestError           a caption, size, preset, seed or variant that cannot be honoured
    │   ├── CaptionError       the caption is not one that Ideogram 4 understands
    │   └── MissingToolError   something that a measurement needs is not installed
    ├── SourceError            a checkpoint folder or file is missing, incomplete or not what it claims to be
    ├── ArtifactError          the same for a quantized artifact (weights, manifest)
    ├── ResourceError          not enough disk space or memory for what was asked
    └── PublishError           a push that must not happen

The command line turns each of them into one line on standard error and exit code 2; everything else is a defect and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class IdeogramQ8Error(Exception):
    """Base of all errors raised on purpose."""


class RequestError(IdeogramQ8Error):
    """A caption, size, preset, seed or variant that cannot be honoured."""


class CaptionError(RequestError):
    """The caption is not one that Ideogram 4 understands.

    `problems` lists all its faults where the message names the first of several; `is_mendable` is whether mending leaves none.
    """

    def __init__(self, message: str, problems: Sequence[str] = (), *, is_mendable: bool = False) -> None:
        super().__init__(message)
        self.problems, self.is_mendable = tuple(problems), is_mendable


class MissingToolError(RequestError):
    """Something that a measurement needs is not installed; `remedy` is the command that installs it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.remedy = remedy


class SourceError(IdeogramQ8Error):
    """A checkpoint that is missing, incomplete or not what it claims to be.

    `problems` lists all that is wrong with its tensors where the message names only the first few.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ArtifactError(IdeogramQ8Error):
    """A quantized artifact that is missing, incomplete or not what it claims to be."""


class ResourceError(IdeogramQ8Error):
    """Not enough disk space or memory for what was asked."""


class PublishError(IdeogramQ8Error):
    """A push that must not happen."""


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: names from untrusted files end up in messages. Escapes what is not printable."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
