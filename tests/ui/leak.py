"""Fifty changes of variant in one process: `python -m tests.ui.leak [--out FILE]`. Resident memory must stay within 5 % of the start."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ideogram_q8 import memory
from ideogram_q8.caption import to_caption
from ideogram_q8.generation import Request
from ideogram_q8.ui.studio import Studio

SWITCHES, LARGEST_GROWTH = 50, 0.05


def switch(studio: Studio, switches: int) -> dict[str, Any]:
    """Resident bytes after every variant was used twice, and after so many switches more; a picture of two steps after each."""
    request = Request(to_caption("a red heart on a white background"), 1, "custom-2-g3", 64, 64)
    names = [variant.name for variant in studio.variants()]

    def use(index: int) -> int:
        list(studio.paint(names[index % len(names)], request))
        gc.collect()
        return memory.host_bytes()[2]

    start = max(use(i) for i in range(2 * len(names)))
    sizes = [use(i) for i in range(switches)]
    end = max(sizes[-len(names) :])
    return {
        "switches": switches,
        "variants": names,
        "start_bytes": start,
        "end_bytes": end,
        "largest_bytes": max(sizes),
        "growth": round(end / start - 1, 4),
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=SWITCHES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = switch(Studio("pocket", Path(folder) / "outputs", Path(folder) / "cache"), options.switches)
    text = json.dumps(found, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(found["growth"] > LARGEST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
