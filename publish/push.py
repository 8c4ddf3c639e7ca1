"""The publishing command from a checkout: `python publish/push.py VERB ...`; `ideogram_q8.publishing.push` has the verbs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

from ideogram_q8.machine import console

if __name__ == "__main__":
    console.prepare()

from ideogram_q8.publishing.push import main

if __name__ == "__main__":
    raise SystemExit(console.run(main))
