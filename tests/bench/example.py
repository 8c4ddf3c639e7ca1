"""A result of each kind, made up, for what only reads results."""

from __future__ import annotations

from ideogram_q8.bench.cards import CARDS
from ideogram_q8.bench.machine import Clocks, Machine, Peak, Peaks
from ideogram_q8.bench.results import (
    FORMAT_VERSION,
    DenoiseResult,
    DenoiseRow,
    DenoiseSettings,
    LinearResult,
    LinearRow,
    LinearSettings,
    LoadResult,
    LoadRow,
    LoadSettings,
    StepPart,
)
from ideogram_q8.bench.timing import Timing

CPU = Machine("cpu", "A processor", None, 10**10, 2, 2, ("avx2",), "Linux", {"torch": "2.13.0"})
CARD = Machine("cuda", CARDS["h100"].device, "9.0", 80 * 10**9, 16, 8, ("avx2",), "Linux", {"torch": "2.13.0", "cuda": "13.0"})
OTHER_CARD = Machine("cuda", "A card", "9.9", 80 * 10**9, 16, 8, (), "Linux", {})
PEAKS = Peaks("bfloat16", Peak(800e12, "torch.mm"), Peak(1500e12, "Triton"), 2500e9)
CLOCKS = (Clocks(1980, 1980, 2619, 50, 400.0, 700.0, ""), Clocks(1700, 1980, 2619, 66, 690.0, 700.0, "power cap"))
OPERATIONS = {"attention.qkv": 4 * 10**12, "attention": 10**12, "outside": 10**10}
PARTS = (StepPart("attention.qkv", "int8", 4 * 10**12, 0.004), StepPart("attention", "float", 10**12, 0.002))


def denoise_row(name: str, seconds: float | None, parts: tuple[StepPart, ...] = (), peer: bool = False) -> DenoiseRow:
    timing = None if seconds is None else Timing.of([seconds, seconds, 2 * seconds])
    note = "not installed" if seconds is None else ""
    return DenoiseRow(name, f"label of {name}", peer, "int8", timing, parts, 20 * 10**9, 19 * 10**9, (), 0.01, note)


def denoise(machine: Machine = CARD, peaks: Peaks = PEAKS) -> DenoiseResult:
    rows = (
        denoise_row("unquantized", 0.02),
        denoise_row("int8", 0.01, PARTS),
        denoise_row("torchao", None, peer=True),
        denoise_row("comfy", 0.0125, peer=True),
    )
    names = tuple(row.variant for row in rows)
    settings = DenoiseSettings(34, 1024, 1024, 512, 2048, "bfloat16", 3, 4, 300.0, 24 * 10**9, 0, names)
    when = "2026-01-02T03:04:05+00:00"
    return DenoiseResult(FORMAT_VERSION, "denoise", when, machine, peaks, CLOCKS, settings, OPERATIONS, "tensors", rows, False)


def linear(machine: Machine = CARD) -> LinearResult:
    rows = (
        LinearRow("attention.o", 4608, 4608, 4096, "not quantized", "float", 2 * 10**11, Timing.of([4e-4]), 0.002, ""),
        LinearRow("attention.o", 4608, 4608, 4096, "INT8, Triton", "int8", 2 * 10**11, Timing.of([2e-4, 3e-4]), 0.01, "runs"),
        LinearRow("attention.o", 4608, 4608, 4096, "peer: nobody", "int8", 2 * 10**11, None, None, "not installed"),
    )
    settings = LinearSettings("bfloat16", (4096,), (), 5, 0)
    return LinearResult(FORMAT_VERSION, "linear", "2026-01-02T03:04:05+00:00", machine, PEAKS, (), settings, rows, True)


def load() -> LoadResult:
    timing = Timing.of([1.0, 2.0])
    rows = (
        LoadRow("int8", "builds/int8", 10**9, 2 * 10**9, timing, timing, 10**8, timing, "files dropped"),
        LoadRow("unknown", "nowhere", 0, 0, None, None, None, None, "no such folder"),
    )
    settings = LoadSettings("float32", 2, 1, 0)
    return LoadResult(FORMAT_VERSION, "load", "2026-01-02T03:04:05+00:00", CPU, settings, rows, (10**9, 10**9), False)
