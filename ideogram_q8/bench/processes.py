"""A function in a process of its own, so that its peak memory is its own and its time without the start of Python."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from ideogram_q8.errors import IdeogramQ8Error, ResourceError

_Found = TypeVar("_Found")


def apart(what: str, function: Callable[..., _Found], *arguments: object) -> _Found:
    """`function(*arguments)` in a fresh process that `what` ("quantized", "loaded"). Errors of the project come back as they are.

    Raises:
        ResourceError: the process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs,))
    process.start()
    theirs.close()
    try:
        # not as the process's arguments: `start` waits for ever where the child ends before it has read many
        ours.send((function, arguments))
        found: _Found | IdeogramQ8Error = ours.recv()
    except (EOFError, ConnectionError):
        process.join()
        raise ResourceError(f"the process that {what} ended with code {process.exitcode}; was it out of memory?") from None
    finally:
        ours.close()
        process.join()
    if isinstance(found, IdeogramQ8Error):
        raise found
    return found


def _child(parent: Connection) -> None:
    function, arguments = parent.recv()
    try:
        parent.send(function(*arguments))
    except IdeogramQ8Error as error:
        parent.send(error)
