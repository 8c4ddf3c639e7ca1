"""The command line: one sub-command per verb.

    python -m ideogram_q8 calibrate SOURCE --captions FILE --out stats.safetensors
    python -m ideogram_q8 merge-stats FILE FILE ... --out stats.safetensors
    python -m ideogram_q8 quantize SOURCE --scheme int8|--recipe FILE --out DIR
    python -m ideogram_q8 convert ARTIFACT --to diffusers|single --out DIR
    python -m ideogram_q8 caption FILE|TEXT [--size WxH] [--mend] [--json]
    python -m ideogram_q8 generate ARTIFACT --caption FILE|TEXT --out picture.png
    python -m ideogram_q8 inspect PATH
    python -m ideogram_q8 doctor [VARIANT ...] [--size WxH]
    python -m ideogram_q8 recipe make SOURCE --policy naive|paper|convrot|auto --stats FILE --out recipe.json
    python -m ideogram_q8 recipe explain FILE
    python -m ideogram_q8 bench linear|denoise|load [--device cuda] [--out FILE]
    python -m ideogram_q8 bench project FILE --card rtx-3090
    python -m ideogram_q8 bench quantize SOURCE --scheme int8
    python -m ideogram_q8 bench card --out DIR [--rehearse]
    python -m ideogram_q8 ablate SOURCE --stats FILE --out DIR
    python -m ideogram_q8 evaluate --reference PLACE --candidate PLACE ... --suite NAME --out DIR
    python -m ideogram_q8 evaluate merge DIR ... --out DIR
    python -m ideogram_q8 report compare OLD NEW
    python -m ideogram_q8 app [--artifact PLACE ...]
    python -m ideogram_q8 card BUILD ... --report REPORT --repo OWNER/NAME --out DIR [--family]
    python -m ideogram_q8 push plan|push|status|verify|rollback DIR --repo NAME/REPO

SOURCE and ARTIFACT may be the word `pocket`, the embedded model. Exit codes: 0; 1 where `report compare` finds a regression, or
`caption` something to mend; 2 with one line on standard error when something is refused, after a list where a checkpoint's tensors are
wrong or a caption has several faults; 130 after Ctrl-C. Whatever else goes wrong is a defect and shows its traceback. Each verb is a
module of `ideogram_q8.commands`. `ideogram-q8`, of an installed package, is the same program.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import sys
from collections.abc import Iterator, Sequence

from ideogram_q8.machine import console

if __name__ == "__main__":
    console.prepare()

from ideogram_q8.commands import (
    ablate,
    app,
    bench,
    calibrate,
    caption,
    card,
    convert,
    doctor,
    evaluate,
    generate,
    inspect,
    push,
    quantize,
    recipe,
    report,
)
from ideogram_q8.commands.options import Parser
from ideogram_q8.errors import CaptionError, IdeogramQ8Error, SourceError, printable
from ideogram_q8.machine.terminal import say

VERBS = (
    *(calibrate, recipe, quantize, convert, caption, generate, inspect, doctor, ablate, bench, evaluate, report),
    *(app, card, push),
)
_REFUSED_BY_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""OSErrors that the user must settle (disk full, no permission); others point at a defect."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. `--help` raises SystemExit(0), as argparse does."""
    try:
        arguments = build_parser().parse_args(argv)
        with _warnings_shown():
            return arguments.verb(arguments) or 0
    except IdeogramQ8Error as error:
        for problem in error.problems if isinstance(error, SourceError | CaptionError) else ():
            say(problem, to="err")
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in _REFUSED_BY_THE_SYSTEM:
            raise
        return _refuse(f"{error.filename or 'writing'}: {error.strerror}; free space or choose another place")
    except KeyboardInterrupt:
        return console.interrupted()


def start() -> int:
    """The installed program `ideogram-q8`: the exit code of `main`, on a terminal that is prepared for it."""
    console.prepare()
    return console.run(main)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line as data; each sub-command sets `verb`, a function of the parsed arguments."""
    parser = Parser(prog="python -m ideogram_q8", description="Quantize Ideogram 4 and run it.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for module in VERBS:
        module.add(verbs)
    return parser


class _Lines(logging.Handler):
    """Each record as a line on standard error, above a progress bar if one is there."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {printable(record.getMessage())}"
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            say(line, to="err")


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """What this package logs as a warning is for the person who runs a command."""
    lines, logger = _Lines(logging.WARNING), logging.getLogger("ideogram_q8")
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)


def _refuse(message: str) -> int:
    say(f"error: {' '.join(message.split())}", to="err")
    return 2


if __name__ == "__main__":
    sys.exit(console.run(main))
