"""Kills `quantize` at chosen calls into the system, again and again, and says what it left and what the next run made of it.

    python -m tests.killed_runs SOURCE FOLDER SEED    # a line of JSON for each kill

A program of its own that forks: one start of torch serves all runs, and no thread of the tests is forked. Every run replaces an older
artifact, so that the renames at the end are those of the longest way.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ideogram_q8.builds import journal, open_artifact, quantization, sink
from ideogram_q8.errors import ArtifactError
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source

POINTS = 5
"""Kills while tensors are written, and as many among the last calls of a run."""
SYNC_BYTES = 300_000
"""A small file has several entries in its journal, then."""
LAST = 24
"""Calls at the end of a run: manifest, syncs, renames, removal of what was replaced."""


def forked(work: Callable[[], None]) -> int:
    """Exit code of `work` in a child process; minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count_calls(on_call: Callable[[int], object]) -> None:
    """Wraps what changes files: `on_call` gets the number of each call before it happens."""
    lock, calls = threading.Lock(), 0

    def wrapped(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal calls
            with lock:
                calls += 1
                on_call(calls)
            return function(*args, **options)

        return call

    for name in ("fsync", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, wrapped(getattr(os, name)))
    sink.fsync = os.fsync
    sink.Sink._put = wrapped(sink.Sink._put)


def digest(folder: Path) -> dict[str, str]:
    """sha256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Scene:
    """A source, an older artifact in `out`, and what an unbroken run puts in its place."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.out = open_source(source), folder / "out"
        self.older = folder / "older"
        forked(lambda: self.quantize("q8_0", self.older))
        forked(lambda: self.quantize("int8", folder / "unbroken"))
        self.unbroken, self.before = digest(folder / "unbroken"), digest(self.older)

    def quantize(self, scheme: str, out: Path) -> None:
        sink.SYNC_BYTES = SYNC_BYTES
        quantization.quantize(self.source, choose(scheme, self.source.config), out, overwrite=True)

    def calls(self) -> int:
        """How many calls a whole run makes, give or take what threads do in another order."""
        reading, writing = os.pipe()
        self.restore()

        def work() -> None:
            count_calls(lambda number: os.write(writing, b"."))
            self.quantize("int8", self.out)

        assert forked(work) == 0
        return len(os.read(reading, 1 << 16))

    def restore(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.older, self.out)

    def kill_at(self, point: int) -> dict[str, object]:
        self.restore()

        def work() -> None:
            count_calls(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == point else None)
            self.quantize("int8", self.out)

        code = forked(work)
        left = self.left()
        reading, writing = os.pipe()

        def again() -> None:
            sink.SYNC_BYTES = SYNC_BYTES
            recipe = choose("int8", self.source.config)
            shown = [0]
            quantization.quantize(
                self.source, recipe, self.out, overwrite=True, on_progress=lambda p: shown.append(p.resumed_bytes)
            )
            os.write(writing, str(shown[-1]).encode())

        again_code = forked(again)
        os.close(writing)
        resumed = int(os.read(reading, 100) or 0)
        os.close(reading)
        hidden = [path.name for path in self.out.parent.iterdir() if path.name.startswith(".")]
        same = again_code == 0 and digest(self.out) == self.unbroken
        return {"point": point, "code": code, "left": left, "resumed": resumed, "same": same, "hidden": hidden}

    def left(self) -> str:
        """What a user finds in `out` after the kill."""
        if not self.out.exists():
            return "nothing"
        try:
            open_artifact(self.out, verify=True)
        except ArtifactError as error:
            return f"broken: {error}"
        found = digest(self.out)
        found.pop(journal.NAME, None)  # readers pass over it; it goes last
        return "older" if found == self.before else "new" if found == self.unbroken else "a mixture"


def main(source: str, folder: str, seed: str) -> None:
    scene = Scene(Path(source), Path(folder))
    calls = scene.calls()
    chosen = random.Random(int(seed))
    points = [chosen.randrange(1, calls - LAST) for _ in range(POINTS)]
    points += chosen.sample(range(calls - LAST, calls + 1), POINTS)
    for point in sorted(points):
        print(json.dumps(scene.kill_at(point)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
