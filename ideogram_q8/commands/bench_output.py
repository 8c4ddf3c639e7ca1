"""What the actions of `bench` share: a table and a line of JSON, printed and kept, and progress."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.commands.options import BAR_DELAY, check_new_file
from ideogram_q8.machine.terminal import say_json, say_text

if TYPE_CHECKING:
    from ideogram_q8.bench.results import BenchProgress, Result


def add_output(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--out`."""
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="keep that line in a .json file, written anew after each measurement"
    )


def check_output(arguments: argparse.Namespace) -> None:
    """Raises RequestError: `--out` cannot be written."""
    if arguments.out is not None:
        check_new_file(arguments.out, ".json")


@contextlib.contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[BenchProgress], None]]:
    """Progress with rate and time left, on standard error."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", delay=BAR_DELAY) as bar:

        def show(progress: BenchProgress) -> None:
            bar.total = progress.total
            bar.set_postfix_str(progress.label)
            bar.update(progress.done - bar.n)

        yield show


def keeper(arguments: argparse.Namespace) -> Callable[[Result], None]:
    """What writes the result so far into the file of `--out`, if there is one, after each measurement."""
    from ideogram_q8.bench import results

    def keep(result: Result) -> None:
        if arguments.out is not None:
            results.write(arguments.out, results.to_json(result))

    return keep


def finish(arguments: argparse.Namespace, result: Result) -> None:
    """Prints and keeps a result. Raises KeyboardInterrupt where Ctrl-C ended it, so that the exit code says so."""
    from ideogram_q8.bench import results, tables

    tell(arguments, tables.table(result), results.to_json(result))
    if result.interrupted:
        raise KeyboardInterrupt


def tell(arguments: argparse.Namespace, table: str, line: str) -> None:
    """Prints the table and the line, and keeps the line where `--out` says so."""
    from ideogram_q8.bench import results

    if arguments.out is not None:
        results.write(arguments.out, line)
    if not arguments.json:
        say_text(f"{table}\n\n")
    say_json(line)
