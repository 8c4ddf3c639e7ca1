"""What is made of a picture beside it: comparisons, nameless copies, what Gradio copies into its cache. All of it goes with the picture."""

from __future__ import annotations

import glob
import threading
import time
from collections.abc import Iterable
from pathlib import Path


class Copies:
    """Files in the app's `temporary` folder that hold pictures of the folder `outputs`. For any number of threads."""

    def __init__(self, outputs: Path, temporary: Path) -> None:
        """Removes what earlier releases left in `outputs`: nameless copies, votes, and comparisons without their picture."""
        self._outputs, self.temporary = outputs, temporary
        self._made: dict[str, set[Path]] = {}
        self._lock = threading.Lock()
        for old in (*outputs.glob("blind-*.png"), *outputs.glob("votes-*.json"), *outputs.glob("*-compared.*")):
            stem = old.stem.removesuffix("-compared")
            if stem == old.stem or not (outputs / f"{stem}.png").is_file():
                old.unlink(missing_ok=True)

    def note(self, copy: Path, pictures: Iterable[str]) -> None:
        """Remembers that `copy` holds the pictures of these file names."""
        with self._lock:
            for picture in pictures:
                self._made.setdefault(picture, set()).add(copy)

    def remove(self, pictures: Iterable[str]) -> None:
        """Deletes all copies of the pictures of these file names."""
        gone = set(pictures)
        with self._lock:
            made = {copy for picture in gone for copy in self._made.pop(picture, ())}
        for copy in made:
            copy.unlink(missing_ok=True)
        names = gone | {copy.name for copy in made}
        for held in self.temporary.glob("*/*"):  # Gradio's cache: a folder for each content, the file under its own name
            if held.name in names:
                held.unlink(missing_ok=True)
        for picture in gone:
            for old in self._outputs.glob(f"{glob.escape(Path(picture).stem)}-compared.*"):
                old.unlink(missing_ok=True)

    def expire(self, seconds: float) -> None:
        """Deletes what was made longer ago, and forgets it."""
        past = time.time() - seconds
        with self._lock:
            for picture, made in list(self._made.items()):
                self._made[picture] = {copy for copy in made if copy.exists()}
                if not self._made[picture]:
                    del self._made[picture]
        for path in self.temporary.glob("*"):
            if path.is_file() and path.stat().st_mtime < past:
                path.unlink(missing_ok=True)
