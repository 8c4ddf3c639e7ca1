"""Paints a suite with several variants and writes report.json: fidelity to the reference, words read, time and memory.

    python -m ideogram_q8.evaluation.compare --count 64 --preset default-20 --out report.json

One variant is in memory at a time; same caption, seed and settings for all. Intervals are percentile bootstraps over
captions (10,000 resamples, fixed seed). Equal pictures have an infinite PSNR, which has no mean: they count as if a single
colour value differed by one, the largest finite PSNR of their size.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ideogram_q8 import report
from ideogram_q8.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.checkpoint import open_source
from ideogram_q8.evaluation import metrics, ocr
from ideogram_q8.evaluation.suite import CaptionSuite, pocket_suite
from ideogram_q8.generation import Request, Result, generate
from ideogram_q8.loading import load
from ideogram_q8.manifest import FILE_NAME, TOOL_VERSION, Manifest, sha256_of
from ideogram_q8.variants import VARIANT_NAMES, prepare

RESAMPLES = 10_000
REFERENCE = "fp8"
INTERVALS = f"percentile bootstrap over captions, {RESAMPLES:,} resamples"
SOFTWARE = ("torch", "diffusers", "transformers", "torchmetrics", "rapidocr", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """What one variant painted, in the suite's order."""

    name: str
    location: str
    results: tuple[Result, ...]


def paint(name: str, location: str, suite: CaptionSuite, preset: str, size: tuple[int, int]) -> Run:
    """All pictures of a variant on the CPU in float32; one picture is painted first and thrown away to warm up."""
    model = load(location)

    def request(index: int) -> Request:
        return Request(suite.cases[index].caption, suite.cases[index].seed, preset, *size)

    generate(model, request(0))
    order = tqdm(range(len(suite.cases)), desc=f"painting with {name}", unit="picture")
    return Run(name, location, tuple(generate(model, request(i)) for i in order))


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
    pairs = [(a.image, b.image) for a, b in zip(reference.results, run.results, strict=True)]

    def fidelity(metric: Callable[[Image.Image, Image.Image], float], unit: str) -> report.Figure:
        if run.name == reference.name:
            return report.NotMeasured("the reference itself")
        return measured([metric(a, b) for a, b in pairs], unit)

    words = [read(ocr.band(r.image, *case.band)) == case.word for r, case in zip(run.results, suite.cases, strict=True)]
    seconds = [result.seconds_per_step for result in run.results]
    return {
        "psnr": fidelity(finite_psnr, "dB"),
        "ssim": fidelity(metrics.ssim, "1"),
        "lpips": report.NotMeasured("its network weights do not come with the packages used here"),
        "ocr_exact_match": measured([float(word) for word in words], "1"),
        "seconds_per_step": report.Measured(round(statistics.median(seconds), 5), len(seconds), None, "s"),
        "peak_memory": report.NotMeasured("several variants ran in one process, whose peak belongs to none of them"),
    }


def weight_files(location: str) -> tuple[report.VariantFile, ...]:
    """Both transformers' files, from the manifest or, for a source, from its folder."""
    folder = Path(location)
    if (folder / FILE_NAME).is_file():
        manifest = Manifest.from_json((folder / FILE_NAME).read_text(encoding="utf-8"))
        return tuple(report.VariantFile(record.path, record.size, record.sha256) for record in manifest.files)
    source = open_source(location).folder
    paths = [next((source / COMPONENT_FOLDERS[branch]).glob("*.safetensors")) for branch in BRANCHES]
    return tuple(
        report.VariantFile(path.relative_to(source).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths
    )


def hardware() -> report.Hardware:
    """This machine, as the report names it."""
    processor = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capability = torch.backends.cpu.get_cpu_capability()
    name = f"{processor} ({capability})"
    return report.Hardware("cpu", platform.system(), name, torch.get_num_threads(), memory, None, None)


def compare(source: str, suite: CaptionSuite, preset: str) -> report.Report:
    """Measures all variants of `source`, building those that are missing."""
    read = ocr.reader()
    reference: Run | None = None
    entries = []
    size = open_source(source).traits.default_size
    for name in VARIANT_NAMES:
        location = prepare(name, source)
        run = paint(name, location, suite, preset, size)
        reference = reference or run
        found = figures(run, reference, suite, read)
        entries.append(report.VariantReport(name, run.results[0].artifact_sha256, weight_files(location), (), found))
    return report.Report(
        format_version=report.FORMAT_VERSION,
        tool_version=TOOL_VERSION,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        hardware=hardware(),
        software={name: importlib.metadata.version(name) for name in SOFTWARE},
        suite=report.Suite(suite.name, suite.sha256, len(suite.cases)),
        settings=report.Settings(preset, *size, tuple(case.seed for case in suite.cases), "float32", REFERENCE, INTERVALS),
        variants=tuple(entries),
    )


def table(result: report.Report) -> str:
    """One line a variant, for the terminal."""
    lines = [f"{'variant':8} {'MB':>7} {'PSNR dB':>24} {'SSIM':>24} {'words read':>12} {'s/step':>8}"]
    for variant in result.variants:
        cells = [_cell(variant.figures[name]) for name in ("psnr", "ssim", "ocr_exact_match", "seconds_per_step")]
        megabytes = sum(file.size for file in variant.files) / 1e6
        lines.append(f"{variant.name:8} {megabytes:7.2f} {cells[0]:>24} {cells[1]:>24} {cells[2]:>12} {cells[3]:>8}")
    return "\n".join(lines)


def _cell(figure: report.Figure) -> str:
    if isinstance(figure, report.NotMeasured):
        return "-"
    interval = "" if figure.interval is None or figure.unit == "s" else f" [{figure.interval[0]:.3g}, {figure.interval[1]:.3g}]"
    return f"{figure.value:.4g}{interval}"


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Compare all variants of the pocket on held-out captions.")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--preset", default="default-20")
    parser.add_argument("--out", type=Path, required=True, help="the report, JSON")
    arguments = parser.parse_args()
    result = compare("pocket", pocket_suite(arguments.count), arguments.preset)
    arguments.out.write_text(result.to_json(), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
