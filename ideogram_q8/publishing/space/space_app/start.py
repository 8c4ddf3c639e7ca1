"""The Space's app: fetches the builds that `space.json` names, then runs `app.py` with them.

`publish/push.py space` copies this file, `app.py`, the package and the settings into one folder, which is the Space. A repository that is
private or gated is read with the token in the Space's secret HF_TOKEN.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

from huggingface_hub import snapshot_download

SETTINGS = Path(__file__).with_name("space.json")


def main() -> None:
    """Runs the `app.py` that lies beside this file, which serves until it is stopped and ends the process with its exit code."""
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    folders = [snapshot_download(variant["repo"], revision=variant["revision"]) for variant in settings["variants"]]
    sys.argv = ["app.py", "--host", os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")]
    sys.argv += ["--port", os.environ.get("GRADIO_SERVER_PORT", "7860"), "--device", settings["device"]]
    for folder in folders:
        sys.argv += ["--artifact", folder]
    runpy.run_path(str(Path(__file__).with_name("app.py")), run_name="__main__")


if __name__ == "__main__":
    main()
