"""The app: `ideogram-q8 app`, then open the address it prints. Generates pictures with any variant and compares up to four.

python app.py                                                the embedded model on the CPU, or on CUDA where there is one
python app.py --source ideogram-4-fp8 --device cuda          another checkpoint; its builds are made on first use
python app.py --artifact int8-paper --artifact q4_k_m-imatrix    artifacts made elsewhere, beside their source's own variants
python app.py --artifact someone/ideogram-4-int8             a build on the Hub: downloaded when it is first used

`python app.py` of a checkout, `ideogram-q8 app` of an installed package and `python -m ideogram_q8 app` are one and the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from ideogram_q8.commands.options import SOURCE_HELP, Parser, add_prompt_expander
from ideogram_q8.errors import IdeogramQ8Error, RequestError
from ideogram_q8.machine import console
from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.devices import AUTO, DEVICES, DTYPES, check_device, default_dtype
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.typed import as_typed

if TYPE_CHECKING:
    from ideogram_q8.ui.engine.studio import Studio

HIGHEST_PORT = 65535
WARM_UP_AFTER_SECONDS = 1.0


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("app", help="the page in the browser: generate with any variant, compare up to four")
    _add_options(parser)
    parser.set_defaults(verb=run)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of `python app.py`. Raises RequestError."""
    parser = Parser(description="Generate pictures with any variant of a model, and compare up to four of them.")
    _add_options(parser)
    return check(parser.parse_args(arguments))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", help=f"{SOURCE_HELP} (default: that of the first --artifact, else pocket)")
    parser.add_argument(
        "--artifact",
        metavar="DIR|FILE|ID",
        action="append",
        default=[],
        help="an artifact to offer too: a folder, a GGUF or safetensors file of a pair for --source, or a Hub id "
        "org/name[/folder][@revision], which is downloaded when it is first used; repeatable",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="a report.json of `evaluate`: its figures stand on the cards of what it measured",
    )
    parser.add_argument("--variant", help="the variant picked at the start (default: the best that fits, not the original)")
    parser.add_argument("--device", choices=(AUTO, *DEVICES), default=AUTO, help="default: cuda where there is one, else cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        type=_host,
        help="address to listen on, an IPv6 one with brackets or without; the default is reachable from this computer only",
    )
    parser.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which the app is reached too, as that of a proxy, app.example or app.example:8443; repeatable",
    )
    parser.add_argument("--port", type=int, default=7860, help="0 takes any free port (default: %(default)s)")
    parser.add_argument(
        "--root-path",
        metavar="PATH",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        help="where a proxy in front serves the page, as /paint or https://example.org/paint, if not at the top of its host (default: "
        "GRADIO_ROOT_PATH)",
    )
    parser.add_argument(
        "--outputs",
        type=Path,
        default=platformdirs.user_data_path("ideogram-q8") / "outputs",
        help="folder for pictures; whoever opens the page can fetch what is in it (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        metavar="N",
        type=int,
        default=8,
        help="visitors who may wait before others are turned away (default: %(default)s)",
    )
    parser.add_argument(
        "--auth", metavar="FILE", type=Path, help="who may enter: a text file with a line NAME:PASSWORD for each"
    )
    add_prompt_expander(parser)
    parser.add_argument(
        "--preview-decoder",
        metavar="DIR|FILE",
        type=Path,
        help="a tiny autoencoder to show steps with: taef2.safetensors, or a folder of diffusers' AutoencoderTiny (default: the "
        "checkpoint's taef2.safetensors, or madebyollin/taef2 in the Hub's cache)",
    )
    parser.add_argument(
        "--share", action="store_true", help="also reachable through gradio.live for three days; give --auth too"
    )
    parser.add_argument(
        "--mcp", action="store_true", help="also an MCP server, under gradio_api/mcp/; needs pip install 'gradio[mcp]'"
    )


def check(options: argparse.Namespace) -> argparse.Namespace:
    """The options, with --auth read. Raises RequestError: a value is none that the app can be started with."""
    if options.max_queue < 1:
        raise RequestError(f"--max-queue is {options.max_queue}; expected 1 or more")
    if options.mcp and importlib.util.find_spec("mcp") is None:
        raise RequestError("--mcp needs the mcp package: pip install 'gradio[mcp]'")
    options.auth = read_accounts(options.auth) if options.auth else None
    if options.preview_decoder is not None and not options.preview_decoder.exists():
        raise RequestError(f"--preview-decoder is {options.preview_decoder}, which is not there; expected a file or folder")
    if not re.fullmatch(r"(https?://[\w.:\[\]-]+)?(/[\w.~-]+)*/?", options.root_path, re.ASCII):
        raise RequestError(
            f"--root-path is {options.root_path!r}; expected a path as /paint, or an address as https://example.org/paint"
        )
    if not 0 <= options.port <= HIGHEST_PORT:
        raise RequestError(f"--port is {options.port}; expected 0 to {HIGHEST_PORT}")
    outputs = options.outputs.resolve()
    if outputs == Path.home() or outputs in Path.home().parents or outputs in Path(__file__).resolve().parents:
        raise RequestError(f"--outputs is {outputs}, and all that is in it would be served; name a folder for pictures alone")
    return options


def _host(text: str) -> str:
    """An address without the brackets that it has in links."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def read_accounts(path: Path) -> list[tuple[str, str]]:
    """Names and passwords from a file with a line NAME:PASSWORD for each; empty lines and lines that start with # are left out.

    Raises:
        RequestError: there is no such file, a line is of another form, or nobody is in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--auth is {path}: {error}; expected a text file with a line NAME:PASSWORD for each") from None
    accounts = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            name, colon, password = line.partition(":")
            if not (name and colon and password):
                raise RequestError(f"--auth {path}, line {number} is not NAME:PASSWORD")
            accounts.append((name, password))
    if not accounts:
        raise RequestError(f"--auth {path} names nobody; expected a line NAME:PASSWORD for each")
    return accounts


def open_studio(options: argparse.Namespace) -> Studio:
    """Raises IdeogramQ8Error: the source, an artifact, the device or the variant is not there."""
    from ideogram_q8.ui.engine.measured import read_report  # here and below: help and refusals come before torch is imported
    from ideogram_q8.ui.engine.stock import source_of
    from ideogram_q8.ui.engine.studio import Studio

    device = check_device(options.device)
    studio = Studio(
        options.source or source_of(options.artifact),
        options.outputs.resolve(),
        artifacts=options.artifact,
        report=read_report(options.report) if options.report else None,
        device=device,
        dtype=options.dtype or default_dtype(device),
        prompt_expander=options.prompt_expander,
        preview_decoder=options.preview_decoder,
    )
    names = [variant.name for variant in studio.variants()]
    if options.variant is not None:
        options.variant = as_typed(options.variant, names)
    if options.variant not in (None, *names):
        raise RequestError(f"--variant is {options.variant}; expected one of {', '.join(names)}")
    return studio


def start(options: argparse.Namespace) -> tuple[Studio, str]:
    """Opens what is asked for and serves it in the background; the studio and the page's address.

    Raises IdeogramQ8Error: as `open_studio`, or the host or port cannot be had.
    """
    from ideogram_q8.ui.engine.surroundings import settle, without_unusable_proxies
    from ideogram_q8.ui.imports import import_gradio, postpone

    settle(options.host)
    postpone("torch")
    studio = open_studio(options)
    with without_unusable_proxies():
        import_gradio()
        from ideogram_q8.ui.engine.studio import warm_up
        from ideogram_q8.ui.page import Serving, build_page, find_port, serve

        port = find_port(options.host, options.port)
        serving = Serving(
            options.host, port, options.auth, options.share, options.mcp, options.allowed_host, options.root_path.rstrip("/")
        )
        if serving.warning:
            say(f"warning: {serving.warning}", to="err")
        page = build_page(studio, options.variant, options.max_queue, own_machine=serving.is_private)
        address = serve(page, studio, serving)
    _later(warm_up)
    return studio, address


def _later(work: Callable[[], None]) -> None:
    """Runs it in the background once the page had time to go out: imports keep a server from answering."""
    timer = threading.Timer(WARM_UP_AFTER_SECONDS, work)
    timer.daemon = True
    timer.start()


def main() -> int:
    """Serves until Ctrl-C; returns the exit code: 2 for a refusal, 130 for Ctrl-C."""
    try:
        return _serve(parse())
    except (IdeogramQ8Error, OSError) as error:
        say(f"error: {' '.join(str(error).split())}", to="err")
        return 2


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C. Raises RequestError, IdeogramQ8Error: as `check` and `start`; the system's refusals, such as a port in use."""
    try:
        return _serve(check(arguments))
    except OSError as error:
        raise RequestError(str(error)) from error


def _serve(options: argparse.Namespace) -> int:
    studio, address = start(options)
    say(f"Ideogram Q8 is ready at {address}  (Ctrl-C stops it; pictures go to {studio.outputs})")
    try:
        machine.here.wait(threading.Event())
    except KeyboardInterrupt:
        studio.close()
    return console.INTERRUPTED
