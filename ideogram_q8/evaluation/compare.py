"""Paints a suite with several variants and writes report.json: fidelity to the reference, words read, time and memory.

    python -m ideogram_q8.evaluation.compare --count 64 --preset default-20 --out report.json

Each variant paints in a process of its own (`painting`); same caption, seed and settings for all. Intervals are percentile
bootstraps over captions (10,000 resamples, fixed seed); times are the median and the quartiles over all steps. Equal pictures
have an infinite PSNR, which has no mean: they count as if a single colour value differed by one, the largest finite PSNR of
their size.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ideogram_q8 import report
from ideogram_q8.artifact.reader import read_manifest
from ideogram_q8.checkpoint import open_source
from ideogram_q8.devices import AUTO, DEVICES, DTYPES, check_device, default_dtype
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.evaluation import metrics, ocr
from ideogram_q8.evaluation.painting import Order, Outcome, paint
from ideogram_q8.evaluation.suite import CaptionSuite, pocket_suite
from ideogram_q8.generation import Request
from ideogram_q8.manifest import FILE_NAME, TOOL_VERSION
from ideogram_q8.variants import VARIANT_NAMES, given, prepare

RESAMPLES = 10_000
INTERVALS = f"percentile bootstrap over captions, {RESAMPLES:,} resamples"
SOFTWARE = ("torch", "diffusers", "transformers", "torchmetrics", "rapidocr", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """What one variant painted, in the suite's order, and what it took."""

    name: str
    outcome: Outcome
    images: tuple[Image.Image, ...]


def run(name: str, location: str, suite: CaptionSuite, settings: report.Settings, device: str) -> Run:
    """All pictures of a variant."""
    sized = (settings.preset, settings.width, settings.height)
    requests = tuple(Request(case.caption, case.seed, *sized) for case in suite.cases)
    outcome, images = paint(Order(location, device, settings.dtype, requests))
    return Run(name, outcome, tuple(images))


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of the mean (Efron 1979)."""
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(0).integers(len(data), size=(RESAMPLES, len(data)))
    low, high = np.percentile(data[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def measured(values: Sequence[float], unit: str) -> report.Measured:
    """Mean and its interval."""
    return report.Measured(round(statistics.fmean(values), 6), len(values), _rounded(bootstrap(values)), unit)


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    return round(interval[0], 6), round(interval[1], 6)


def finite_psnr(a: Image.Image, b: Image.Image) -> float:
    """PSNR in dB; equal pictures get the largest finite value of their size."""
    largest = 10 * math.log10(255**2 * a.width * a.height * 3)
    return min(metrics.psnr(a, b), largest)


def figures(run: Run, reference: Run, suite: CaptionSuite, read: ocr.Reader) -> dict[str, report.Figure]:
    """Every metric of the report for one variant."""
    pairs = list(zip(reference.images, run.images, strict=True))

    def fidelity(metric: Callable[[Image.Image, Image.Image], float], unit: str) -> report.Figure:
        if run.name == reference.name:
            return report.NotMeasured("the reference itself")
        return measured([metric(a, b) for a, b in pairs], unit)

    words = [read(ocr.band(image, *case.band)) == case.word for image, case in zip(run.images, suite.cases, strict=True)]
    peaks = run.outcome.peak_bytes
    return {
        "psnr": fidelity(finite_psnr, "dB"),
        "ssim": fidelity(metrics.ssim, "1"),
        "lpips": report.NotMeasured("its network weights do not come with the packages used here"),
        "ocr_exact_match": measured([float(word) for word in words], "1"),
        "seconds_per_step": step_time([second for picture in run.outcome.step_seconds for second in picture]),
        "peak_memory": report.Measured(max(peaks), len(peaks), None, "bytes"),
    }


def step_time(seconds: Sequence[float]) -> report.Measured:
    """Median and quartiles. No interval: steps of one run are not independent of each other."""
    low, median, high = (round(float(value), 6) for value in np.percentile(seconds, [25, 50, 75]))
    return report.Measured(median, len(seconds), None, "s", (low, high))


def weight_files(location: str) -> tuple[report.VariantFile, ...]:
    """Both transformers' files, from the manifest or, for a source, from its folder."""
    folder = Path(location)
    if (folder / FILE_NAME).is_file():
        manifest = read_manifest(folder)
        return tuple(report.VariantFile(record.path, record.size, record.sha256) for record in manifest.files)
    source = open_source(location)
    sizes = {path: (source.folder / path).stat().st_size for path in source.record().files}
    return tuple(report.VariantFile(path, sizes[path], digest) for path, digest in source.record().files.items())


def hardware(device: str) -> report.Hardware:
    """This machine, as the report names it."""
    processor = f"{platform.processor() or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    card: Any = torch.cuda.get_device_properties(device) if device == "cuda" else None
    return report.Hardware(
        device=device,
        system=platform.system(),
        processor=processor,
        threads=torch.get_num_threads(),
        memory_bytes=memory,
        accelerator=None if card is None else card.name,
        accelerator_memory_bytes=None if card is None else card.total_memory,
    )


def compare(places: Mapping[str, str], suite: CaptionSuite, preset: str, device: str, dtype: str) -> report.Report:
    """Measures variants.

    Args:
        places: what `loading.load` takes, by the variant's name; the first is the reference, and is a source.
        dtype: of activations, by its name in torch.
    """
    read = ocr.reader()
    reference, *_ = places
    seeds = tuple(case.seed for case in suite.cases)
    size = open_source(places[reference]).traits.default_size
    settings = report.Settings(preset, *size, seeds, dtype, reference, INTERVALS)
    first: Run | None = None
    entries = []
    for name, location in places.items():
        found = run(name, location, suite, settings, device)
        first = first or found
        taken = found.outcome
        entries.append(
            report.VariantReport(
                name, taken.artifact_sha256, weight_files(location), (), taken.other_cpus, figures(found, first, suite, read)
            )
        )
    return report.Report(
        format_version=report.FORMAT_VERSION,
        tool_version=TOOL_VERSION,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        hardware=hardware(device),
        software={name: importlib.metadata.version(name) for name in SOFTWARE},
        suite=report.Suite(suite.name, suite.sha256, len(suite.cases)),
        settings=settings,
        variants=tuple(entries),
    )


def table(result: report.Report) -> str:
    """One line a variant, for the terminal."""
    lines = [f"{'variant':12} {'MB':>8} {'PSNR dB':>24} {'SSIM':>24} {'words read':>18} {'s/step':>26} {'peak MB':>8}"]
    for variant in result.variants:
        psnr, ssim, words, seconds = (
            _cell(variant.figures[n]) for n in ("psnr", "ssim", "ocr_exact_match", "seconds_per_step")
        )
        size, peak = sum(file.size for file in variant.files) / 1e6, variant.figures["peak_memory"]
        megabytes = f"{peak.value / 1e6:.0f}" if isinstance(peak, report.Measured) else "-"
        lines.append(f"{variant.name:12} {size:8.2f} {psnr:>24} {ssim:>24} {words:>18} {seconds:>26} {megabytes:>8}")
    if result.disturbed is not False:
        lines.append("other programs ran, or may have run, while the variants were timed: the times rank nothing")
    return "\n".join(lines)


def _cell(figure: report.Figure) -> str:
    if isinstance(figure, report.NotMeasured):
        return "-"
    span = figure.interval or figure.quartiles
    return f"{figure.value:.4g}" + (f" [{span[0]:.3g}, {span[1]:.3g}]" if span else "")


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Compare the original with its builds on the pocket's held-out captions.")
    parser.add_argument("--source", default="pocket", help="the original (default: %(default)s)")
    parser.add_argument("--artifact", type=Path, action="append", default=[], help="measure this artifact too; repeatable")
    parser.add_argument("--device", choices=(AUTO, *DEVICES), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--preset", default="default-20")
    parser.add_argument("--out", type=Path, required=True, help="the report, JSON")
    arguments = parser.parse_args()
    try:
        result = _measure(arguments)
    except IdeogramQ8Error as error:
        parser.exit(2, f"error: {error}\n")
    arguments.out.write_text(result.to_json(), encoding="utf-8")
    print(table(result))


def _measure(arguments: argparse.Namespace) -> report.Report:
    device = check_device(arguments.device)
    extra = given(arguments.artifact, arguments.source)
    places = {name: prepare(name, arguments.source) for name in VARIANT_NAMES}
    places |= {variant.name: str(variant.location) for variant in extra}
    return compare(places, pocket_suite(arguments.count), arguments.preset, device, arguments.dtype or default_dtype(device))


if __name__ == "__main__":
    main()
