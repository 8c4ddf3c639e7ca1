"""Large files of the Hub on their way into huggingface_hub's cache: what arrived stays, whatever stops it, and is never fetched twice.

huggingface_hub (1.32 to 2.4, `_download_to_tmp_and_move`) gives each download a name of its own and removes it when it ends early, and
a transfer by xet ends when the process does; neither can be cancelled between two reports. That is right for small files and wrong for
ten gigabytes. So these come by plain HTTP, which the Hub offers for every file up to 50 GB, into `blobs/SHA256.incomplete`, and only
what is missing is asked for. Whole and with the right sha256 a file becomes `blobs/SHA256`, where huggingface_hub finds it.

What this module does not know: which files a repository has, and which of them are wanted (`checkpoint.hub`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ideogram_q8.errors import SourceError
from ideogram_q8.hub.endpoint import public
from ideogram_q8.machine import platforms as machine

POLL_SECONDS = 0.2
"""How often progress is reported, and a cancel noticed."""
SILENCE_SECONDS = 20.0
"""Without a byte for so long, a connection counts as broken."""
TRIES = 6
"""Connections in a row that bring nothing, until the transfer gives up."""
_PIECE = 1 << 20
_PARTIAL_CONTENT, _TOO_MANY, _SERVER_ERRORS = 206, 429, 500


@dataclass(frozen=True)
class Blob:
    """A large file: where it is fetched from, its size in bytes and its sha256, its place in the cache, and the lock for it."""

    url: str
    size: int
    sha256: str
    place: Path
    lock: Path

    @property
    def incomplete(self) -> Path:
        """Where it grows."""
        return self.place.with_name(f"{self.place.name}.incomplete")

    @property
    def arrived(self) -> int:
        """Bytes of it that are on the disk."""
        for path in (self.place, self.incomplete):
            if path.is_file():
                return min(path.stat().st_size, self.size)
        return 0


def pause_before(attempt: int) -> float:
    """Seconds to wait before the connection is tried again, after `attempt` that brought nothing."""
    return float(min(2 ** (attempt - 1), 15))


def fetch(blob: Blob, headers: Mapping[str, str], on_arrived: Callable[[int], None]) -> None:
    """Brings what is missing of a file. Its thread reads, this one reports: so a cancel need not wait for a silent connection.

    Args:
        headers: what every request carries.
        on_arrived: called several times a second with the bytes that are on the disk; what it raises cancels.

    Raises:
        SourceError: what arrived has another sha256; it was removed.
        httpx's errors, OSError: the Hub refuses, cannot be reached any more, or the disk is full. What arrived is kept.
    """
    transfer = _Transfer(blob, headers)
    transfer.start()
    try:
        while transfer.is_alive():
            transfer.join(POLL_SECONDS)
            on_arrived(transfer.arrived)
    finally:
        transfer.leave.set()
    if transfer.error is not None:
        raise transfer.error


class _Left(Exception):
    """Raised inside a transfer when the caller has stopped waiting for it."""


class _Transfer(threading.Thread):
    """The reading side. It holds a lock, so that of two programs, or of one that was cancelled and its successor, one writes."""

    def __init__(self, blob: Blob, headers: Mapping[str, str]) -> None:
        super().__init__(name="hub-transfer", daemon=True)
        self.blob, self.headers = blob, dict(headers) | {"Accept-Encoding": "identity"}
        self.arrived = blob.arrived
        self.leave = threading.Event()
        self.error: BaseException | None = None
        self._digest = hashlib.sha256()

    def run(self) -> None:
        try:
            with self._lock():
                if not self.blob.place.is_file():
                    self._bring()
        except _Left:
            pass
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits, where it is raised again
            self.error = error

    def _lock(self) -> AbstractContextManager[object]:
        """huggingface_hub's own lock for the file, taken; meanwhile progress is what somebody else makes."""
        self.blob.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.blob.lock)
        while True:
            with suppress(Timeout):
                return lock.acquire(timeout=POLL_SECONDS)
            self.arrived = self.blob.arrived
            self._stay()

    def _stay(self) -> None:
        if self.leave.is_set():
            raise _Left

    def _bring(self) -> None:
        path = self.blob.incomplete
        with open(path, "ab+", buffering=0) as file:
            self._recall(file)
            self._read_all(file)
            os.fsync(file.fileno())
        found = self._digest.hexdigest()
        if found != self.blob.sha256:
            path.unlink()
            raise SourceError(
                f"what arrived from {public(self.blob.url)} has sha256 {found}, expected {self.blob.sha256}; it was removed: try "
                "again, and if it stays so, tell whoever published it"
            )
        machine.here.replace(path, self.blob.place)

    def _recall(self, file: BinaryIO) -> None:
        """Hashes what arrived before. `arrived` does not begin at 0 meanwhile: it is on the disk, and whoever watches sees no step back."""
        if file.seek(0, os.SEEK_END) > self.blob.size:
            file.truncate(0)
        self.arrived = file.seek(0, os.SEEK_END)
        file.seek(0)
        while piece := file.read(_PIECE):
            self._stay()
            self._digest.update(piece)

    def _read_all(self, file: BinaryIO) -> None:
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported under this name by all its versions

        attempt = 0
        while self.arrived < self.blob.size:
            before = self.arrived
            try:
                self._read(file)
            except (httpx.TransportError, HfHubHTTPError) as error:
                attempt = 1 if self.arrived > before else attempt + 1
                if attempt >= TRIES or not _is_passing(error):
                    raise
                self.leave.wait(pause_before(attempt))
            self._stay()

    def _read(self, file: BinaryIO) -> None:
        """From one connection, until it has given everything."""
        from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]  # not in __all__

        wanted = {"Range": f"bytes={self.arrived}-"} if self.arrived else {}
        with get_session().stream("GET", self.blob.url, headers=self.headers | wanted, timeout=SILENCE_SECONDS) as response:
            hf_raise_for_status(response)
            if self.arrived and response.status_code != _PARTIAL_CONTENT:  # it begins at the beginning
                file.truncate(0)
                self.arrived, self._digest = 0, hashlib.sha256()
            for piece in response.iter_bytes():
                self._stay()
                if self.arrived + len(piece) > self.blob.size:
                    raise SourceError(
                        f"{public(self.blob.url)} gives more than the {self.blob.size} bytes that the Hub says; try again"
                    )
                file.write(piece)
                self._digest.update(piece)
                self.arrived += len(piece)


def _is_passing(error: Exception) -> bool:
    """Whether it may be gone in a moment: no answer, or an answer that the Hub is busy."""
    response = getattr(error, "response", None)
    return response is None or response.status_code == _TOO_MANY or response.status_code >= _SERVER_ERRORS
