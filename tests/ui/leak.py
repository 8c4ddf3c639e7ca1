"""Fifty changes of variant in one process: `python -m tests.ui.leak [--out FILE]`. Resident memory must stay within 5 % of the start."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ideogram_q8.builds.variants import VARIANT_NAMES
from ideogram_q8.captions import to_caption
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.runtime.memory import usage
from ideogram_q8.ui.engine.studio import Studio

SWITCHES, LARGEST_GROWTH = 50, 0.05


def switch(
    studio: Studio, switches: int, names: Sequence[str], on_use: Callable[[int, str, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Resident bytes after every variant was used twice, and after so many switches more; a picture of two steps after each.

    Args:
        names: the variants, in turn.
        on_use: called after each use, with its number, the variant and resident bytes.
    """
    request = Request(to_caption("a red heart on a white background"), 1, "custom-2-g3", 64, 64)
    began = time.perf_counter()

    def use(index: int) -> int:
        list(studio.paint(names[index % len(names)], request))
        gc.collect()
        resident = usage.host_bytes()[2]
        on_use(index + 1, names[index % len(names)], resident)
        return resident

    settling = 2 * len(names)
    start = max(use(i) for i in range(settling))
    sizes = [use(settling + i) for i in range(switches)]
    end = max(sizes[-len(names) :])
    return {
        "switches": switches,
        "variants": list(names),
        "start_bytes": start,
        "end_bytes": end,
        "largest_bytes": max(sizes),
        "growth": round(end / start - 1, 4),
        "seconds": round(time.perf_counter() - began, 1),
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
    }


def _tell(number: int, variant: str, resident: int) -> None:
    print(f"use {number}: {variant}, {resident / 1e6:.1f} MB resident", file=sys.stderr, flush=True)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=SWITCHES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio("pocket", Path(folder) / "outputs", Path(folder) / "cache")
        found = switch(studio, options.switches, VARIANT_NAMES, _tell)
    text = json.dumps(found, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(found["growth"] > LARGEST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
