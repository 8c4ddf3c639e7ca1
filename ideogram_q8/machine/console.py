"""The terminal at the two ends of a command: output that it cannot show or that nobody reads any more, and Ctrl-C at any moment.

A program calls `prepare` before its own imports, which take seconds and are as likely to be stopped as anything, and ends with `run`.
Imports nothing but the standard library, so that what comes before `prepare` takes no time.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import select
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells have it."""
UNREAD = 141
"""The exit code where nobody reads the output any more, as of a program that SIGPIPE ended."""
_ESCAPES = "ideogram_q8.escapes"


def prepare() -> None:
    """Makes standard output and error print what can be printed, and an interruption from here on one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ESCAPES)
    sys.excepthook = _told


def run(main: Callable[[], int]) -> int:
    """The exit code of `main`, whose output is written by then; UNREAD where nobody reads it, INTERRUPTED after Ctrl-C."""
    try:
        try:
            code = main()
        except SystemExit as end:  # argparse, after --help
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        _flush()
    except KeyboardInterrupt:
        return interrupted()
    except OSError:
        if not _is_unread():
            raise
        _discard()
        return UNREAD
    return code


def interrupted() -> int:
    """Says so in one line, and returns the exit code."""
    with contextlib.suppress(OSError):
        print("interrupted", file=sys.stderr, flush=True)
    return INTERRUPTED


def portable(text: str) -> str:
    """JSON as standard output can carry it to another program: where that is not UTF-8, with escapes for all that is not ASCII."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return text if codecs.lookup(encoding).name == "utf-8" else text.encode("ascii", _ESCAPES).decode("ascii")


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Signs that an encoding lacks as \uXXXX, by their UTF-16 halves: as JSON and most languages write them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    halves = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[i]:02x}{halves[i + 1]:02x}" for i in range(0, len(halves), 2)), error.end


codecs.register_error(_ESCAPES, _escaped)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    """What Python calls at the end of a program that an exception ends: of Ctrl-C no traceback is shown."""
    if not issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    raise SystemExit(interrupted())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _is_unread() -> bool:
    """Whether the other end of the output is closed: what is still to be written fails (Windows says EINVAL), or the system says so."""
    try:
        _flush()
    except OSError as error:
        return error.errno in (errno.EPIPE, errno.EINVAL)
    if not hasattr(select, "poll"):  # on Windows
        return False
    ends = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError, ValueError):
            ends.register(stream.fileno(), 0)
    return any(state & select.POLLERR for _, state in ends.poll(0))


def _discard() -> None:
    """Lets what is left of the output go nowhere: the interpreter writes it when it ends, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError, ValueError):
            os.dup2(nowhere, stream.fileno())
