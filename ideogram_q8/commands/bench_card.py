"""`bench card`: every claim about a graphics card measured in one run, each result kept as it comes; at the end, which aims hold."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from ideogram_q8.bench.card.phases import PHASES, SECONDS, Phase
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import check_device
from ideogram_q8.machine.terminal import say, say_text

SUMMARY = "card.md"
_LONGEST = 24 * 3600


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the action."""
    parser = actions.add_parser(
        "card",
        help="what a graphics card shows about every claim of this project, in minutes: kernels, pictures, speed beside others, memory",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="the folder for card.jsonl and the logs; in a folder of an earlier run what that run finished is not measured again",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of the whole run, at most; phases share them (default {SECONDS:.0f})"
    )
    names = ", ".join(phase.name for phase in PHASES)
    parser.add_argument("--phases", metavar="NAME,NAME", help=f"only these, and again if they were finished: {names}")
    parser.add_argument("--again", action="store_true", help="measure what was finished, too")
    parser.add_argument(
        "--rehearse", action="store_true", help="run the same code on the CPU with small shapes: shows that it runs, no figure"
    )
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises RequestError; KeyboardInterrupt after Ctrl-C, when what was measured is told."""
    if not 1 <= arguments.seconds <= _LONGEST:
        raise RequestError(f"--seconds is {arguments.seconds:g}; expected 1 to {_LONGEST}")
    phases = _chosen(arguments.phases)
    if not arguments.rehearse:
        _check_card()

    from ideogram_q8.bench.card import lines, run, summary
    from ideogram_q8.bench.results import write

    folder: Path = arguments.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RequestError(f"--out is {folder}, which is no folder; name one") from None
    again = arguments.again or arguments.phases is not None
    try:
        with _ended_as_by_control_c():
            run.measure(folder, arguments.seconds, arguments.rehearse, phases, again, _show)
    finally:
        text = summary.text(lines.read(folder / lines.FILE)[0])
        write(folder / SUMMARY, text)
        say_text(f"{text}\n\n{folder / lines.FILE}")


@contextlib.contextmanager
def _ended_as_by_control_c() -> Iterator[None]:
    """SIGTERM, with which a session ends, stops the phase that runs and tells what was measured."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_card() -> None:
    """Raises RequestError: there is no card."""
    try:
        check_device("cuda")
    except RequestError:
        raise RequestError(
            "torch finds no NVIDIA card here (`doctor` says more); --rehearse runs the same code on the CPU"
        ) from None


def _chosen(text: str | None) -> tuple[Phase, ...]:
    """In the order in which they run. Raises RequestError: an unknown name."""
    if text is None:
        return PHASES
    names = [name.strip() for name in text.split(",")]
    known = [phase.name for phase in PHASES]
    for name in names:
        if name not in known:
            raise RequestError(f"--phases has {name!r}; expected names of {', '.join(known)}")
    return tuple(phase for phase in PHASES if phase.name in names)


def _show(text: str) -> None:
    say(text, to="err")
