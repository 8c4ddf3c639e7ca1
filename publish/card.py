"""The card of a repository: manifest, report and a template to Markdown. Pure: the same input gives the same bytes.

A figure comes from the report or is "not measured"; sizes, hashes and what stayed in high precision come from the manifest.
The rejected alternative is a template with numbers in it, which is how published cards came to carry stale ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # exported, but not by __all__

from ideogram_q8.architecture import IDEOGRAM4_TRAITS
from ideogram_q8.errors import PublishError
from ideogram_q8.manifest import FileRecord, Manifest
from ideogram_q8.report import METRICS, Figure, Measured, NotMeasured, Report, VariantReport
from publish.licence import APACHE, IDEOGRAM_REPO, Licence, modification_notice

TEMPLATE = Path(__file__).resolve().parents[1] / "model_cards" / "template.md.j2"
TITLES = {"fp8": "FP8 (source)", "int8": "INT8 W8A8", "q8_0": "GGUF Q8_0", "q4_k": "GGUF Q4_K"}
_SCHEME_TAGS = {"int8": ("int8", "w8a8"), "q8_0": ("gguf", "q8_0"), "q4_k": ("gguf", "q4_k")}


class FileRow(NamedTuple):
    """A line of the which-file table."""

    path: str
    branch: str
    bits_per_weight: str
    size: str
    sha256: str


class MetricRow(NamedTuple):
    """A line of the measured table: one cell per variant."""

    title: str
    cells: tuple[str, ...]


class KeptRow(NamedTuple):
    """Linears of one kind that were left unquantized, over both branches, and why."""

    kind: str
    linears: int
    scheme: str
    reason: str


def render(manifest: Manifest, report: Report | None, measured: VariantReport | None, licence: Licence, repo: str) -> str:
    """The text of README.md for a build. `measured` is the report's variant that is this very build, if any.

    Raises:
        PublishError: the build's scheme or its recipe's form is not known here.
    """
    if manifest.scheme not in _SCHEME_TAGS or manifest.variant not in TITLES:
        known = ", ".join(_SCHEME_TAGS)
        raise PublishError(f"the build is {manifest.variant!r} of scheme {manifest.scheme!r}, a card is known for {known}")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {"cell": cell, "bytes": byte_text}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        front_matter=yaml_dump(front_matter(manifest, report, measured, licence, repo), sort_keys=False, width=128).strip(),
        title=TITLES[manifest.variant],
        titles=TITLES,
        manifest=manifest,
        report=report,
        licence=licence,
        is_pocket=licence == APACHE,
        modification=modification_notice(manifest.variant, manifest.tool_version),
        repo=repo,
        folder=repo.split("/")[1],
        source=source_name(manifest),
        verdict=verdict(manifest, report, measured),
        files=[file_row(manifest, file) for file in manifest.files],
        metrics=metric_rows(report) if report else [],
        kept=kept_rows(manifest),
        has_samples=measured is not None and bool(measured.samples),
    )


def front_matter(
    manifest: Manifest, report: Report | None, measured: VariantReport | None, licence: Licence, repo: str
) -> dict[str, object]:
    """The card's metadata under the Hub's keys. `library_name` names what reads the files, so that no wrong snippet is shown."""
    values: dict[str, object] = dict(licence.front_matter)
    if licence != APACHE:
        values |= {"base_model": source_name(manifest), "base_model_relation": "quantized"}
    tags = ["text-to-image", "quantized", *_SCHEME_TAGS[manifest.scheme], "ideogram", "ideogram-q8"]
    values |= {
        "pipeline_tag": "text-to-image",
        "library_name": "ideogram-q8" if manifest.scheme == "int8" else "gguf",
        "language": ["en"],
        "tags": tags,
        "quantized_by": repo.split("/")[0],
        "inference": False,
    }
    if measured and measured.samples:
        values["widget"] = [{"text": sample.caption, "output": {"url": sample.path}} for sample in measured.samples]
    if report and measured:
        values |= model_index(report, measured, repo)
    return values


def model_index(report: Report, measured: VariantReport, repo: str) -> dict[str, object]:
    """The Hub's `model-index` of the figures that were measured; empty if none was."""
    metrics = [
        {"type": name, "name": f"{METRICS[name].title} ({METRICS[name].unit})", "value": figure.value}
        for name, figure in sorted(measured.figures.items())
        if isinstance(figure, Measured)
    ]
    if not metrics:
        return {}
    dataset = {"name": report.suite.name, "type": report.suite.name}
    results = [{"task": {"type": "text-to-image", "name": "Text to image"}, "dataset": dataset, "metrics": metrics}]
    return {"model-index": [{"name": repo.split("/")[1], "results": results}]}


def source_name(manifest: Manifest) -> str:
    """How the card names the source: a Hub repository or `pocket`, never a folder of the machine that quantized it."""
    location = manifest.source.location
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", location) or location == "pocket":
        return location
    return IDEOGRAM_REPO if manifest.traits == IDEOGRAM4_TRAITS else manifest.traits.name


def verdict(manifest: Manifest, report: Report | None, measured: VariantReport | None) -> str:
    """One sentence: how far the build is from the reference, and its size beside the reference's."""
    psnr = measured.figures.get("psnr") if measured else None
    if report is None or measured is None or not isinstance(psnr, Measured):
        reason = f": {psnr.not_measured}" if isinstance(psnr, NotMeasured) else ""
        return f"How close this build comes to its source has **not been measured**{reason}."
    reference = report.variant(report.settings.reference)
    base = sum(file.size for file in reference.files) if reference else 0
    size = f", at {sum(f.size for f in manifest.files) / base:.2f} times the size on disk" if base else ""
    interval = f" (95 % interval {_span(psnr.interval, 'dB')})" if psnr.interval else " (no interval computed)"
    settings = report.settings
    return (
        f"PSNR **{psnr.value:.2f} dB**{interval} to the pictures of {TITLES.get(settings.reference, settings.reference)} for the same "
        f"captions and seeds: {psnr.n:,} pictures, preset {settings.preset}, {settings.width}x{settings.height}{size}."
    )


def file_row(manifest: Manifest, file: FileRecord) -> FileRow:
    """Bits per weight = bits of the whole file over the weights and biases it stores (scales and headers count as cost)."""
    weights = sum(math.prod(t.shape) for t in manifest.tensors[file.path] if t.name.endswith((".weight", ".bias")))
    bits = f"{8 * file.size / weights:.2f}" if weights else "unknown"
    return FileRow(file.path, file.branch, bits, byte_text(file.size), file.sha256[:12])


def metric_rows(report: Report) -> list[MetricRow]:
    """All metrics of the report, in the order of METRICS, a cell per variant in the report's order."""
    names = [name for name in METRICS if name in report.variants[0].figures]
    return [MetricRow(METRICS[n].title, tuple(figure_text(v.figures[n]) for v in report.variants)) for n in names]


def kept_rows(manifest: Manifest) -> list[KeptRow]:
    """The Linears of both branches that the recipe left in bf16, grouped by kind and reason.

    Raises:
        PublishError: the parts of the manifest's recipe list no layers with linear, scheme and reason.
    """
    try:
        parts: Any = manifest.recipe["parts"]
        layers = [layer for part in parts.values() for layer in part["layers"]]
        kept = [(layer["linear"], layer["scheme"], layer["reason"]) for layer in layers if layer["scheme"] == "bf16"]
    except (KeyError, TypeError, AttributeError) as error:
        raise PublishError(f"the manifest's recipe is not understood ({error!r}); quantize again with this version") from error
    groups = Counter((re.sub(r"\.\d+\.", ".*.", linear), scheme, reason) for linear, scheme, reason in kept)
    return [KeptRow(kind, number, scheme, reason) for (kind, scheme, reason), number in groups.items()]


def figure_text(figure: Figure) -> str:
    """'45.20 dB (44.80 to 45.60, n = 64)', '0.051 s (quartiles 0.05 to 0.052, n = 640)' or 'not measured (why)'."""
    if not isinstance(figure, Measured):
        return f"not measured ({cell(figure.not_measured)})"
    interval = f"{_span(figure.interval, figure.unit)}, " if figure.interval else ""
    quartiles = f"quartiles {_span(figure.quartiles, figure.unit)}, " if figure.quartiles else ""
    unit = "" if figure.unit in ("1", "bytes") else f" {figure.unit}"
    return f"{_number(figure.value, figure.unit)}{unit} ({interval}{quartiles}n = {figure.n:,})"


def _span(interval: tuple[float, float], unit: str) -> str:
    return f"{_number(interval[0], unit)} to {_number(interval[1], unit)}"


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return byte_text(value)
    return {"dB": f"{value:.2f}", "1": f"{value:.4f}"}.get(unit, f"{value:.3g}")


def byte_text(count: float) -> str:
    """Decimal units, as the Hub shows sizes: 10_440_000_000 -> '10.44 GB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} bytes"


def cell(text: object) -> str:
    """Text that cannot end a Markdown table's cell or line."""
    return " ".join(str(text).replace("|", "\\|").split())
