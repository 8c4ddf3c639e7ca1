"""The phases of a run as data, in the order of what they settle: their shares of the time, and where their code is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.bench.card.report import PhaseReport
    from ideogram_q8.bench.card.setting import CardSetting

Work = Callable[["CardSetting", "PhaseReport"], None]


@dataclass(frozen=True)
class Phase:
    """`seconds` of a run of SECONDS; what earlier phases leave goes to later ones. `code` is the place of its Work, "module:function"."""

    name: str
    seconds: float
    settles: str
    code: str

    def work(self) -> Work:
        """Imports the phase's code. Raises ImportError: a library that all of the phase needs is not installed."""
        module, _, function = self.code.partition(":")
        found: Work = getattr(import_module(module), function)
        return found


def _phase(name: str, seconds: float, settles: str) -> Phase:
    return Phase(name, seconds, settles, f"ideogram_q8.bench.card.phase_{name}:run")


PHASES: tuple[Phase, ...] = (
    _phase("hardware", 15, "what the card is, what it reaches at most, and which attention torch takes"),
    _phase("trials", 45, "which kernels are exact on this card, and why the others are refused"),
    _phase("pocket", 45, "pictures as on the CPU, streamed and overlapped to the bit; fifty changes of variant without growth"),
    _phase("denoise", 140, "seconds of a step at the real width, beside others' programs, and memory beside its prediction"),
    _phase("stages", 45, "what a whole picture takes, at 1024x1024 and 2048x2048, within 24 GB"),
    _phase("streaming", 30, "whether streamed blocks are hidden behind computing"),
    _phase("products", 25, "the rate of every product; needs no diffusers"),
    _phase("tune", 60, "which back end is fastest for each product, and a step with that choice"),
    _phase("laws", 40, "every Triton program against its definition"),
    _phase("project", 5, "what was measured, carried over to an RTX 3090"),
)
SECONDS = sum(phase.seconds for phase in PHASES)
"""Of a whole run."""
