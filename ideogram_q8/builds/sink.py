"""A weight file that is filled in any order by a thread of its own, while another keeps the disk syncing.

The disk works at its own rate that way: a writer that syncs by itself leaves the processor idle while the disk works, and the disk
while tensors are computed. Whoever writes waits only when the queue is full.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import fsync
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from ideogram_q8.builds.journal import Journal

SYNC_BYTES = 256 << 20
"""Bytes written between two entries in the journal: what a killed run loses at most, twice over."""
_QUEUE = 16
"""Pieces that wait for the disk."""
_Argument = TypeVar("_Argument")


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor in main memory, without a copy where it is contiguous."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class Sink:
    """One weight file, new or going on from an earlier run. A context manager; leaving it waits for nothing but the piece at hand.

    After a failure nothing more is written or entered in the journal: a tensor whose bytes did not get there must not be vouched for.
    """

    def __init__(self, path: Path, size: int, journal: Journal) -> None:
        """The file gets its size at once, full of zeros."""
        self._name, self._journal = path.name, journal
        with path.open("ab") as file:
            file.truncate(size)
        self._file = path.open("r+b", buffering=0)
        self._writer, self._syncer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._queue: deque[Future[None]] = deque()
        self._sync: Future[None] | None = None
        self._stopped = False
        self._unsynced = 0
        self._check = 0
        self._written: list[tuple[str, int]] = []

    def write(self, pieces: Sequence[tuple[int, torch.Tensor]]) -> None:
        """Puts tensors at their places in the file. The CRC-32 of a tensor is that of the first piece of each call, in order."""
        self._submit(self._put, pieces)

    def end_tensor(self, name: str) -> None:
        """All pieces of the tensor have been given; it will be in the journal when they are on disk."""
        self._submit(self._end, name)

    def flush(self) -> None:
        """Waits until all is written, synced and in the journal."""
        while self._queue:
            self._queue.popleft().result()
        self._wait_for_sync()
        self._begin_sync()
        self._wait_for_sync()

    def _submit(self, function: Callable[[_Argument], None], argument: _Argument) -> None:
        while len(self._queue) >= _QUEUE:
            self._queue.popleft().result()
        self._queue.append(self._writer.submit(self._unless_stopped, function, argument))

    def _unless_stopped(self, function: Callable[[_Argument], None], argument: _Argument) -> None:
        if self._stopped:
            return
        try:
            function(argument)
        except BaseException:
            self._stopped = True
            raise

    def _put(self, pieces: Sequence[tuple[int, torch.Tensor]]) -> None:
        for index, (offset, tensor) in enumerate(pieces):
            data = as_bytes(tensor)
            if index == 0:
                self._check = zlib.crc32(data, self._check)
            self._file.seek(offset)
            while data:
                written = self._file.write(data)
                self._unsynced += written
                data = data[written:]

    def _end(self, name: str) -> None:
        self._written.append((name, self._check))
        self._check = 0
        if self._unsynced >= SYNC_BYTES:
            self._wait_for_sync()
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._sync = self._syncer.submit(self._sync_and_note, tuple(self._written))
        self._written.clear()
        self._unsynced = 0

    def _wait_for_sync(self) -> None:
        """Waits for each sync, because the system reports a failure once."""
        if self._sync is not None:
            self._sync.result()

    def _sync_and_note(self, written: tuple[tuple[str, int], ...]) -> None:
        fsync(self._file.fileno())
        self._journal.add(self._name, written)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped = True  # the writer may still take a task behind one that is being cancelled
        for pool in (self._writer, self._syncer):
            pool.shutdown(cancel_futures=True)
        self._file.close()
