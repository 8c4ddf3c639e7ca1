"""The app: `python app.py`, then open the address it prints. Generates pictures with any variant and compares two of them."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import platformdirs

from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.ui.page import build_page, serve
from ideogram_q8.ui.studio import Studio
from ideogram_q8.variants import VARIANT_NAMES


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Generate pictures with any variant of the model, and compare two of them.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; the default is reachable from this computer only"
    )
    parser.add_argument("--port", type=int, default=7860, help="0 takes any free port (default: %(default)s)")
    parser.add_argument("--variant", choices=VARIANT_NAMES, default="fp8", help="the variant picked at the start")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=platformdirs.user_data_path("ideogram-q8") / "outputs",
        help="folder for pictures (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Serves until Ctrl-C; returns the exit code: 2 for a refusal, 130 for Ctrl-C."""
    options = parse()
    try:
        studio = Studio("pocket", options.outputs.resolve())
        address = serve(build_page(studio, options.variant), studio, options.host, options.port)
    except (IdeogramQ8Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Ideogram Q8 is ready at {address}  (Ctrl-C stops it; pictures go to {studio.outputs})", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        studio.close()
    return 130


if __name__ == "__main__":
    raise SystemExit(main())
