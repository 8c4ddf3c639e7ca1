"""Deleted pictures: for an hour they can be had back. They lie beside the folder of pictures, which alone is served."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.doors.private import make_private

KEEP_SECONDS = 3600


class Bin:
    """The bin for pictures in the folder `outputs`, by their names there."""

    def __init__(self, outputs: Path) -> None:
        self._outputs, self._folder = outputs, outputs.with_name(f"{outputs.name}.deleted")

    def put(self, file: str) -> None:
        """Takes a picture out of the outputs, if it is there, and removes for good what was put here more than KEEP_SECONDS ago."""
        make_private(self._folder)
        self.empty()
        with contextlib.suppress(FileNotFoundError):
            (self._outputs / file).replace(self._folder / file)
            os.utime(self._folder / file)  # from now on

    def empty(self) -> None:
        """Removes for good what was put here more than KEEP_SECONDS ago."""
        for path in self._folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another visitor's deletion removed it
                if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                    path.unlink()

    def take_back(self, file: str) -> None:
        """Raises RequestError: it has gone for good."""
        try:
            (self._folder / file).replace(self._outputs / file)
        except FileNotFoundError:
            raise RequestError(
                "the picture was deleted too long ago, and is gone; its settings are in no other place"
            ) from None
