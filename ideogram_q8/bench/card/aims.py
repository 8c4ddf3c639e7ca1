"""What the project aims at, as README's table has it, and what the lines of a run say about each aim.

A figure that was measured on another card than an aim is about settles nothing: the aim stays open, with the figure beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.bench.card.lines import CardLine
from ideogram_q8.formats.quantities import gigabytes, percent

Verdict = Literal["holds", "does not hold", "not settled"]
Judged = tuple[Verdict, str]


@dataclass(frozen=True)
class Facts:
    """What the lines of a folder found, by phase and name: the last line of each that was done."""

    found: Mapping[tuple[str, str], Mapping[str, object]]
    reasons: Mapping[tuple[str, str], str]
    """Of what was not done."""

    @classmethod
    def of(cls, lines: Iterable[CardLine]) -> Facts:
        """A later line replaces an earlier one of the same name; what was kept from an earlier run is there by its own lines."""
        found: dict[tuple[str, str], Mapping[str, object]] = {}
        reasons: dict[tuple[str, str], str] = {}
        for line in lines:
            if not line.name or line.state in ("planned", "kept"):
                continue
            key = line.phase, line.name
            found.pop(key, None)
            reasons.pop(key, None)
            if line.state in ("done", "wrong"):
                found[key] = line.found
            else:
                reasons[key] = line.reason
        return cls(found, reasons)

    def number(self, phase: str, name: str, *keys: str) -> float | None:
        """A number in what a line found, by the keys that lead to it; None where there is none."""
        value: object = self.found.get((phase, name))
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def step(self, variant: str) -> float | None:
        """Seconds of a step of a variant of `bench denoise`."""
        return self.number("denoise", variant, "timing", "median")

    def names(self, phase: str) -> list[str]:
        """Returns the names of all that was measured in a phase."""
        return [name for each, name in self.found if each == phase]

    def why(self, phase: str, names: Sequence[str]) -> Judged:
        """Not settled, and what the lines say about measurements that are missing."""
        for name in names:
            if (phase, name) not in self.found:
                return "not settled", f"{name}: {self.reasons.get((phase, name), 'not measured')}"
        return "not settled", "not measured"

    @property
    def card(self) -> tuple[str, str]:
        """CUDA's name of the card, and its compute capability; empty where there is none."""
        machine = self.found.get(("hardware", "machine"), {}).get("machine")
        if not isinstance(machine, Mapping) or machine.get("device") != "cuda":
            return "", ""
        return str(machine.get("name")), str(machine.get("capability"))


@dataclass(frozen=True)
class Aim:
    """`judge` is None where no card is needed; `elsewhere` says then what settles the aim."""

    text: str
    judge: Callable[[Facts], Judged] | None
    elsewhere: str = ""


def judged(aim: Aim, facts: Facts) -> Judged:
    """What is known about an aim. A run without a card settles none."""
    if aim.judge is None:
        return "not settled", f"needs no card: {aim.elsewhere}"
    if not facts.card[0]:
        known = ("hardware", "machine") in facts.found
        return (
            "not settled",
            "a rehearsal on a CPU says nothing about a card" if known else "no card was named: hardware, machine",
        )
    return aim.judge(facts)


def _at_most(value: float, limit: float, text: str) -> Judged:
    return ("holds" if value <= limit else "does not hold"), text


# ---- speed ----

_PICTURE_SECONDS, _STEPS, _BESIDE = 55.0, 48, 2.5
"""Of a picture at quality-48; seconds beside its steps: encoding and decoding (an estimate)."""
_ATTENTION_VARIANTS = ("int8-attention", "int8-rotated-attention")


def _picture(facts: Facts) -> Judged:
    steps = {name: seconds for name in _ATTENTION_VARIANTS if (seconds := facts.step(name)) is not None}
    if not steps:
        return facts.why("denoise", _ATTENTION_VARIANTS)
    if facts.card[0].endswith("RTX 3090"):
        best = _STEPS * min(steps.values()) + _BESIDE
        return _at_most(best, _PICTURE_SECONDS, f"{best:.1f} s: 48 steps, and {_BESIDE:g} s for text and VAE")
    projected = _projected(facts)
    if projected is None:
        return "not settled", f"not an RTX 3090; {facts.why('project', ['rtx-3090'])[1]}"
    return "not settled", f"projected from {facts.card[0]}: {_STEPS * projected + _BESIDE:.0f} s"


def _projected(facts: Facts) -> float | None:
    """Seconds of the fastest step with int8 attention on an RTX 3090."""
    rows = facts.found.get(("project", "rtx-3090"), {}).get("rows")
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    wanted = {"INT8, plain or smoothed, int8 attention", "INT8, all W8A8 rotated, int8 attention"}
    steps = [row["projected"] for row in found if row.get("name") in wanted and isinstance(row.get("projected"), int | float)]
    return min((float(each) for each in steps if isinstance(each, int | float)), default=None)


def _hopper(facts: Facts) -> Judged:
    ours = [seconds for name in ("int8", *_ATTENTION_VARIANTS, "int8-overlap") if (seconds := facts.step(name)) is not None]
    compiled = facts.step("diffusers-compiled")
    if not ours or compiled is None:
        return facts.why("denoise", ["int8", "diffusers-compiled"])
    plain = facts.step("int8") or min(ours)
    others = {name: seconds for name in ("comfy", "torchao", "sdnq") if (seconds := facts.step(name)) is not None}
    beside = "".join(f", {name} {seconds:.3g} s" for name, seconds in others.items())
    text = f"{compiled / plain:.2f} times: INT8 {plain:.3g} s, compiled bfloat16 {compiled:.3g} s{beside}; best of ours {min(ours):.3g} s"
    if not facts.card[1].startswith("9."):
        return "not settled", f"not a Hopper card; {text}"
    holds = compiled / plain >= 1.3 and all(min(ours) <= seconds for seconds in others.values())
    return ("holds" if holds else "does not hold"), text


def _gguf(facts: Facts) -> Judged:
    names = ("int8", "q8_0-int8", "q4_k_s-int8")
    int8, *blocks = (facts.step(name) for name in names)
    if int8 is None or any(each is None for each in blocks):
        return facts.why("denoise", names)
    ratios = [each / int8 for each in blocks if each is not None]
    return _at_most(max(ratios), 1.25, f"Q8_0 {ratios[0]:.2f}, Q4_K {ratios[1]:.2f} times")


def _streaming(facts: Facts) -> Judged:
    plans = ("resident", "unconditional", "both")
    resident, *streamed = (facts.number("streaming", plan, "timing", "median") for plan in plans)
    if resident is None or any(each is None for each in streamed):
        return facts.why("streaming", plans)
    ratios = [each / resident for each in streamed if each is not None]
    text = f"one branch streamed {ratios[0]:.2f}, both {ratios[1]:.2f} times a resident step"
    return _at_most(max(ratios), 1.05, f"{text}; a step that is faster than an RTX 3090's hides less")


# ---- memory ----


def _peaks(facts: Facts, scheme: str, size: str) -> dict[str, float | None]:
    names = (f"{scheme}, encoding", f"{scheme}, a step at {size}", f"{scheme}, decoding at {size}")
    return {name: facts.number("stages", name, "peak_bytes") for name in names}


def _fits(scheme: str, size: str, limit: float) -> Callable[[Facts], Judged]:
    def judge(facts: Facts) -> Judged:
        found = _peaks(facts, scheme, size)
        known = [value for value in found.values() if value is not None]
        broken = [name for name in found if "out of memory" in facts.reasons.get(("stages", name), "").lower()]
        if broken:
            return "does not hold", f"{', '.join(broken)}: out of memory"
        if len(known) < len(found):
            return facts.why("stages", list(found))
        return _at_most(max(known), limit, f"{gigabytes(max(known), '.2f')} of tensors")

    return judge


def _predictions(facts: Facts) -> Judged:
    off: dict[str, float] = {}
    for phase in ("denoise", "stages"):
        for name in facts.names(phase):
            peak, predicted = (facts.number(phase, name, key) for key in ("peak_bytes", "predicted_bytes"))
            if peak and predicted:
                off[name] = predicted / peak - 1
    if not off:
        return facts.why("denoise", ["int8"])
    worst = max(off, key=lambda name: abs(off[name]))
    return _at_most(abs(off[worst]), 0.05, f"{len(off)} peaks; the worst is {worst}: predicted {percent(off[worst], '+.1f')}")


_FIRST_AND_LAST = "allocated, reserved, free, host"


def _changes(facts: Facts) -> Judged:
    found = facts.found.get(("pocket", "changes of variant"), {})
    held, settled = found.get(_FIRST_AND_LAST), found.get("settled_after")
    if not isinstance(held, list) or not isinstance(settled, int) or len(held) <= settled:
        return facts.why("pocket", ["changes of variant"])
    before, after = held[settled - 1], held[-1]
    grown = [after[0] - before[0], after[1] - before[1], before[2] - after[2]]
    text = (
        f"after {len(held)}: allocated {grown[0] / 1e6:+.1f}, reserved {grown[1] / 1e6:+.1f}, in use {grown[2] / 1e6:+.1f} MB"
    )
    return _at_most(max(grown), 16e6, text)


AIMS: tuple[Aim, ...] = (
    Aim("a picture of 1024x1024 in 48 steps in 55 s on an RTX 3090, with int8 attention", _picture),
    Aim(
        "INT8 1.3 times as fast as compiled bfloat16 on Hopper, end to end, and faster than all that runs beside it",
        _hopper,
    ),
    Aim("GGUF with int8 compute within 1.25 times INT8's time", _gguf),
    Aim("INT8 at 1024x1024 under 23.0 GB", _fits("int8", "1024x1024", 23.0e9)),
    Aim("INT8 at 2048x2048 on a 24 GB card", _fits("int8", "2048x2048", 25.0e9)),
    Aim("Q4_K_S at 1024x1024 under 13 GB", _fits("q4_k_s", "1024x1024", 13.0e9)),
    Aim("predictions within 5 % of the measured peak", _predictions),
    Aim("streamed blocks hidden behind computing", _streaming),
    Aim("fifty changes of variant without growth", _changes),
    Aim("loading with less than 3 GB of host memory", None, "`bench load` measures it"),
    Aim("a W8A8 Linear on a CPU with VNNI 1.6 times as fast as in bfloat16", None, "`bench linear` on such a CPU measures it"),
    Aim(
        "a W8A8 product in at most 2.5 instructions per IMMA and 99 KiB, without spills",
        None,
        "the tests count them in machine code",
    ),
)
"""In README's order."""
