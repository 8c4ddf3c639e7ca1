"""The command line: one sub-command per verb.

    python -m ideogram_q8 quantize SOURCE --scheme int8 --out DIR
    python -m ideogram_q8 generate ARTIFACT --caption FILE|TEXT --out picture.png
    python -m ideogram_q8 inspect PATH

SOURCE and ARTIFACT may be the word `pocket`, the embedded model. Exit codes: 0; 2 with one line on standard error when
something is refused; 130 after Ctrl-C. Whatever else goes wrong is a defect and shows its traceback. torch is imported by
the verb that needs it, so that help and refusals come at once.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ideogram_q8.architecture import PRESETS, parse_size
from ideogram_q8.caption import MAX_CHARACTERS, lint, parse, to_caption
from ideogram_q8.errors import IdeogramQ8Error, RequestError

DEFAULT_PRESET = "default-20"
_SCHEMES = ("int8", "q8_0", "q4_k")
_REFUSED_BY_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""OSErrors that the user must settle (disk full, no permission); others point at a defect."""

_BAR_DELAY = 0.01
"""Seconds before a progress bar shows: what is refused at once shows none."""


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are errors like all others: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. `--help` raises SystemExit(0), as argparse does."""
    try:
        arguments = build_parser().parse_args(argv)
        arguments.verb(arguments)
    except IdeogramQ8Error as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in _REFUSED_BY_THE_SYSTEM:
            raise
        return _refuse(f"{error.filename or 'writing'}: {error.strerror}; free space or choose another place")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole command line as data; each sub-command sets `verb`, a function of the parsed arguments."""
    parser = _Parser(prog="python -m ideogram_q8", description="Quantize Ideogram 4 and run it.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    quantize = verbs.add_parser("quantize", help="build an INT8 or GGUF artifact from a checkpoint")
    quantize.add_argument("source", metavar="SOURCE", help="`pocket`, or a folder in the official FP8 layout")
    quantize.add_argument("--scheme", choices=_SCHEMES, required=True, help="number format of the weights")
    quantize.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write; made if missing")
    quantize.add_argument("--overwrite", action="store_true", help="replace an artifact that is already there")
    quantize.set_defaults(verb=_quantize)

    generate = verbs.add_parser("generate", help="paint one picture")
    generate.add_argument("artifact", metavar="ARTIFACT", help="`pocket`, a checkpoint folder, or a folder that quantize wrote")
    generate.add_argument("--caption", metavar="FILE|TEXT", required=True, help="a JSON caption or a plain sentence")
    generate.add_argument("--seed", type=int, default=0, help="0 to 2^63-1; the same seed gives the same picture (default 0)")
    generate.add_argument("--preset", choices=list(PRESETS), default=DEFAULT_PRESET, help=f"default {DEFAULT_PRESET}")
    generate.add_argument("--size", metavar="WxH", help="pixels, for example 1024x768 (default: the model's own)")
    generate.add_argument("--out", type=Path, metavar="PNG", required=True, help="the picture to write")
    generate.set_defaults(verb=_generate)

    inspect = verbs.add_parser("inspect", help="say what a checkpoint, an artifact or a picture is")
    inspect.add_argument("path", metavar="PATH", help="`pocket`, a folder, or a PNG that generate wrote")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(verb=_inspect)
    return parser


def _quantize(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ideogram_q8.checkpoint import open_source
    from ideogram_q8.quantization import Progress, quantize

    source = open_source(arguments.source)
    with tqdm(unit="B", unit_scale=True, desc=arguments.scheme, delay=_BAR_DELAY) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            bar.update(progress.done_bytes - bar.n)

        manifest = quantize(source, arguments.scheme, arguments.out, on_progress=show, overwrite=arguments.overwrite)
    size = sum(file.size for file in manifest.files)
    print(f"{arguments.out}: {manifest.variant}, {size:,} bytes in {len(manifest.files)} files, {manifest.artifact_sha256}")


def _generate(arguments: argparse.Namespace) -> None:
    caption = to_caption(read_caption(arguments.caption))
    for issue in lint(parse(caption)):
        print(f"warning: {issue}", file=sys.stderr)
    size = None if arguments.size is None else parse_size(arguments.size)
    _check_picture_path(arguments.out)

    from tqdm import tqdm

    from ideogram_q8.generation import Request, generate, metadata
    from ideogram_q8.loading import load
    from ideogram_q8.png import write_png

    model = load(arguments.artifact)
    width, height = size or model.traits.default_size
    request = Request(caption=caption, seed=arguments.seed, preset=arguments.preset, width=width, height=height)
    request.check(model.traits)
    with tqdm(total=PRESETS[request.preset].steps, unit="step", desc=model.variant, delay=_BAR_DELAY) as bar:
        result = generate(model, request, on_step=lambda _: bar.update())
    write_png(arguments.out, result.image, metadata(result))
    print(
        f"{arguments.out}: {width}x{height}, {result.variant}, {result.seconds_per_step:.3f} s per step, "
        f"{result.total_seconds:.1f} s in all, {result.peak_bytes / 2**20:,.0f} MiB at most"
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from ideogram_q8.inspection import describe, to_json, to_text

    found = describe(arguments.path)
    print(to_json(found) if arguments.json else to_text(found))


def read_caption(argument: str) -> str:
    """The content of the file that `argument` names, or else `argument` itself.

    Raises:
        RequestError: a file that is not UTF-8 text, cannot be read or is too long, or a file name without a file.
    """
    path = Path(argument)
    try:
        if not path.is_file():
            if path.suffix in (".json", ".txt") and not any(character.isspace() for character in argument):
                raise RequestError(f"{argument}: there is no such caption file; check the name, or write a sentence")
            return argument
    except (OSError, ValueError):  # too long or too strange for a file name, so it is a caption
        return argument
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text; save the caption as UTF-8") from None


def _check_picture_path(path: Path) -> None:
    if path.suffix.lower() != ".png" or path.is_dir():
        raise RequestError(f"--out is {path}; expected the name of a PNG file, for example picture.png")
    if not path.parent.is_dir():
        raise RequestError(f"--out is {path}, but there is no folder {path.parent}; make it or choose another place")


def _refuse(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
