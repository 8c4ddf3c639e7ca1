"""Threads for work that streams: a pool that computes ahead in order, and single jobs in the background."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextlib.contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads in each of which torch computes on one core. What still waits when the block is left is dropped.

    torch's own threads would wait busily between the small operations of each, and take the cores from the others.
    """
    pool = ThreadPoolExecutor(count)
    try:
        started = threading.Barrier(count + 1)
        own = torch.get_num_threads()
        for _ in range(count):
            pool.submit(_compute_alone, started)
        started.wait()
        torch.set_num_threads(own)  # also what threads born later get
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _compute_alone(started: threading.Barrier) -> None:
    torch.get_num_threads()  # the first question in a thread sets the number; after it, ours stays
    torch.set_num_threads(1)
    started.wait()


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], depth: int
) -> Iterator[tuple[_Item, _Result]]:
    """Each item with its result, in order, computed at most `depth` items ahead of the caller."""
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            first, result = waiting.popleft()
            yield first, result.result()
    for first, result in waiting:
        yield first, result.result()


def in_background(function: Callable[[], _Result]) -> Future[_Result]:
    """Runs it in a thread that does not keep a cancelled program from ending."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 (raised again by `result`)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
