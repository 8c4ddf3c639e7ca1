"""The app: `python app.py`, then open the address it prints. Generates pictures with any variant and compares two of them.

python app.py                                                the embedded model on the CPU, or on CUDA where there is one
python app.py --source ideogram-4-fp8 --device cuda          another checkpoint; its builds are made on first use
python app.py --artifact int8-paper --artifact q4_k-aware    artifacts made elsewhere, beside their source's own variants
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from ideogram_q8.commands.options import SOURCE_HELP, Parser
from ideogram_q8.devices import AUTO, DEVICES, DTYPES, check_device, default_dtype
from ideogram_q8.errors import IdeogramQ8Error, RequestError, printable

if TYPE_CHECKING:
    from ideogram_q8.ui.studio import Studio

HIGHEST_PORT = 65535


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options. Raises RequestError."""
    parser = Parser(description="Generate pictures with any variant of a model, and compare two of them.")
    parser.add_argument("--source", help=f"{SOURCE_HELP} (default: that of the first --artifact, else pocket)")
    parser.add_argument(
        "--artifact", metavar="DIR", type=Path, action="append", default=[], help="an artifact to offer too; repeatable"
    )
    parser.add_argument("--variant", default="fp8", help="the variant picked at the start (default: %(default)s)")
    parser.add_argument("--device", choices=(AUTO, *DEVICES), default=AUTO, help="default: cuda where there is one, else cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; the default is reachable from this computer only"
    )
    parser.add_argument("--port", type=int, default=7860, help="0 takes any free port (default: %(default)s)")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=platformdirs.user_data_path("ideogram-q8") / "outputs",
        help="folder for pictures; whoever opens the page can fetch what is in it (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= HIGHEST_PORT:
        raise RequestError(f"--port is {options.port}; expected 0 to {HIGHEST_PORT}")
    outputs = options.outputs.resolve()
    if outputs == Path.home() or outputs in Path.home().parents or outputs in Path(__file__).resolve().parents:
        raise RequestError(f"--outputs is {outputs}, and all that is in it would be served; name a folder for pictures alone")
    return options


def open_studio(options: argparse.Namespace) -> Studio:
    """Raises IdeogramQ8Error: the source, an artifact, the device or the variant is not there."""
    from ideogram_q8.artifact import open_artifact  # here and below: help and refusals come before torch is imported
    from ideogram_q8.ui.studio import Studio

    device = check_device(options.device)
    source = options.source
    if source is None:
        source = open_artifact(options.artifact[0]).manifest.source.location if options.artifact else "pocket"
    studio = Studio(
        source,
        options.outputs.resolve(),
        artifacts=options.artifact,
        device=device,
        dtype=options.dtype or default_dtype(device),
    )
    names = [variant.name for variant in studio.variants()]
    if options.variant not in names:
        raise RequestError(f"--variant is {options.variant}; expected one of {', '.join(names)}")
    return studio


def main() -> int:
    """Serves until Ctrl-C; returns the exit code: 2 for a refusal, 130 for Ctrl-C."""
    try:
        options = parse()
        studio = open_studio(options)

        from ideogram_q8.ui.page import build_page, find_port, serve

        port = find_port(options.host, options.port)
        address = serve(build_page(studio, options.variant), studio, options.host, port)
    except (IdeogramQ8Error, OSError) as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    print(f"Ideogram Q8 is ready at {address}  (Ctrl-C stops it; pictures go to {studio.outputs})", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        studio.close()
    return 130


if __name__ == "__main__":
    raise SystemExit(main())
