"""What each part of a recipe is worth: the published ablation re-created, ComfyUI's convention and the budgeted policy beside it.

    naive              W8A8 and nothing else
    smoothed           SmoothQuant alone
    protected-N        the N most fragile Linears of each branch in bfloat16, nothing smoothed
    paper-N            both, the paper's method (arXiv 2606.12280)
    convrot            rotation, ComfyUI's convention
    auto, auto-paper-N the budgeted policy in the bytes of naive and of paper-N

N is the published 8 and 17, and for a model with fewer blocks also as many as keep their share. Every recipe is built, its
Linears' outputs are measured on the calibration's inputs, and it paints the suite with the same seeds as the FP8 source, which
its pictures are compared with. Times are not measured.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import statistics as numbers
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.captions.suite import CaptionSuite
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import TOOL_VERSION, SourceRecord
from ideogram_q8.formats.report import Measured, Suite
from ideogram_q8.formats.strict_json import decode, parse_json
from ideogram_q8.machine.devices import default_dtype
from ideogram_q8.measure import metrics
from ideogram_q8.measure.metrics import finite_psnr
from ideogram_q8.measure.statistics import INTERVALS, measured
from ideogram_q8.model.architecture import BRANCHES, PartName, TransformerConfig, linears
from ideogram_q8.policies.auto import fit, measure, naive_budget
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.policies.measurement import check_statistics, decibels, recipe_errors, stored_bytes
from ideogram_q8.policies.paper import ALPHA, paper, proportional
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import Source

FORMAT_VERSION = 1
SOFTWARE = ("torch", "diffusers", "transformers", "torchmetrics", "numpy", "pillow")
PROTECTED = (8, 17)
"""Linears per branch that the published ablation protects."""
OnProgress = Callable[[str], None]
"""Called with what is done next."""


@dataclass(frozen=True)
class Noise:
    """Output SNR in dB over some Linears; None where every output is exact.

    `exact` of `linears` Linears are kept as they are; `worst` and `median` are of the others, `mean` is that of the mean error of all.
    """

    linears: int
    exact: int
    worst: float | None
    median: float | None
    mean: float | None


@dataclass(frozen=True)
class Row:
    """One recipe. `size` is bytes of both weight files; `snr_db` has every measured Linear by branch, None where it is exact.

    `psnr` and `ssim` are to the source's pictures, `gain` is the PSNR less that of the first row, picture by picture.
    """

    name: str
    recipe_sha256: str
    artifact_sha256: str
    size: int
    noise: Noise
    kinds: Mapping[str, Noise]
    psnr: Measured
    ssim: Measured
    gain: Measured
    snr_db: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Ablation:
    """All of ablation.json. `software` maps a package to its version; the reference of all pictures is the FP8 source."""

    format_version: int
    tool_version: str
    source: SourceRecord
    stats_sha256: str
    calibration_captions: int
    suite: Suite
    preset: str
    width: int
    height: int
    device: str
    dtype: str
    intervals: str
    software: Mapping[str, str]
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """The text of ablation.json; `from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ablation:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        found = decode(cls, parse_json(text, "ablation.json", ArtifactError), "ablation.json", ArtifactError)
        if found.format_version != FORMAT_VERSION:
            raise ArtifactError(
                f"ablation.json: format_version is {found.format_version}, expected {FORMAT_VERSION}; measure again"
            )
        return found


def counts(config: TransformerConfig) -> tuple[int, ...]:
    """How many Linears are protected, in rising order: as published, and the same share of a model with fewer blocks."""
    candidates = sum(linear.sees_tokens for linear in linears(config))
    shares = {proportional(n, config) for n in PROTECTED}
    return tuple(sorted(n for n in {*PROTECTED, *shares} if n <= candidates))


def recipes(statistics: Statistics, source: Source, device: str = "cpu") -> list[Recipe]:
    """All recipes of the ablation; `policy` is the row's name."""
    protects = counts(source.config)
    naive = choose("int8", source.config)
    methods = [paper(statistics, source, ALPHA, n, f"paper-{n}") for n in protects]
    groups = measure(statistics, source, device)
    fitted = [replace(fit(groups, source, stored_bytes(method, source)), policy=f"auto-{method.policy}") for method in methods]
    return [
        naive,
        paper(statistics, source, ALPHA, 0, "smoothed"),
        *(paper(statistics, source, None, n, f"protected-{n}") for n in protects),
        *methods,
        convrot(source.config),
        fit(groups, source, naive_budget(source)),
        *fitted,
    ]


def ablate(
    source: Source,
    statistics: Statistics,
    stats_sha256: str,
    suite: CaptionSuite,
    preset: str,
    *,
    device: str = "cpu",
    on_progress: OnProgress = lambda _: None,
) -> Ablation:
    """Builds, measures and paints every recipe, one at a time, in a temporary folder.

    Raises:
        ArtifactError: the statistics are of other weights.
        ResourceError: too little disk or memory.
    """
    check_statistics(statistics, source)
    on_progress("measuring every Linear for the budgeted policy")
    planned = [replace(recipe, stats_sha256=stats_sha256) for recipe in recipes(statistics, source, device)]
    job = AblationJob(source, Importance(statistics, stats_sha256), suite, preset, device)

    def errors_of(recipe: Recipe) -> Errors:
        return recipe_errors(recipe, statistics, source, device=device)

    return job.run([(recipe.policy, recipe) for recipe in planned], errors_of, on_progress)


Errors = Mapping[PartName, Mapping[str, float]]
"""Of each Linear by branch, as `policies.measurement` defines them."""


@dataclass(frozen=True)
class AblationJob:
    """What all rows have in common; the statistics choose int8 recipes, and weigh GGUF ones."""

    source: Source
    importance: Importance
    suite: CaptionSuite
    preset: str
    device: str

    def run(
        self, planned: Sequence[tuple[str, Recipe]], errors_of: Callable[[Recipe], Errors], on_progress: OnProgress
    ) -> Ablation:
        """A row for each recipe and its name; the first is what the others' gain is over."""
        on_progress("painting with the source")
        reference = self.paint(self.source)
        rows: list[Row] = []
        baseline: list[float] | None = None
        for name, recipe in planned:
            on_progress(f"{name}: building, measuring, painting")
            row, psnr = self.row(name, recipe, errors_of(recipe), reference, baseline)
            baseline = baseline or psnr
            rows.append(row)
        width, height = self.source.traits.default_size
        return Ablation(
            format_version=FORMAT_VERSION,
            tool_version=TOOL_VERSION,
            source=self.source.record(),
            stats_sha256=self.importance.sha256,
            calibration_captions=len(self.importance.statistics.calibration.captions),
            suite=Suite(self.suite.name, self.suite.sha256, len(self.suite.cases)),
            preset=self.preset,
            width=width,
            height=height,
            device=self.device,
            dtype=default_dtype(self.device),
            intervals=INTERVALS,
            software={name: importlib.metadata.version(name) for name in SOFTWARE},
            rows=tuple(rows),
        )

    def paint(self, place: Source | Path) -> list[Image.Image]:
        """With the source itself, or with an artifact folder."""
        model = load(place, device=self.device, dtype=getattr(torch, default_dtype(self.device)))
        size = self.source.traits.default_size
        return [generate(model, Request(case.caption, case.seed, self.preset, *size)).image for case in self.suite.cases]

    def row(
        self, name: str, recipe: Recipe, errors: Errors, reference: Sequence[Image.Image], baseline: Sequence[float] | None
    ) -> tuple[Row, list[float]]:
        """A recipe's row, and its PSNR of each picture; `baseline` are the first row's."""
        with tempfile.TemporaryDirectory(prefix="ideogram-q8-ablation-") as folder:
            artifact = Path(folder) / "artifact"
            manifest = quantize(self.source, recipe, artifact, importance=self.importance)
            pairs = list(zip(reference, self.paint(artifact), strict=True))
        psnr = [finite_psnr(a, b) for a, b in pairs]
        row = Row(
            name=name,
            recipe_sha256=recipe.sha256,
            artifact_sha256=manifest.artifact_sha256,
            size=sum(file.size for file in manifest.files),
            noise=_noise(error for branch in BRANCHES for error in errors[branch].values()),
            kinds=_kinds(errors, self.source.config),
            psnr=measured(psnr, "dB"),
            ssim=measured([metrics.ssim(a, b) for a, b in pairs], "1"),
            gain=measured([a - b for a, b in zip(psnr, baseline or psnr, strict=True)], "dB"),
            snr_db={branch: {name: _rounded(error) for name, error in errors[branch].items()} for branch in BRANCHES},
        )
        return row, psnr


def _kinds(errors: Errors, config: TransformerConfig) -> dict[str, Noise]:
    """Errors by kind of Linear inside the blocks, both branches together."""
    kinds: dict[str, list[float]] = {}
    for linear in linears(config):
        if linear.in_block:
            kinds.setdefault(linear.kind, []).extend(found[linear.name] for found in errors.values() if linear.name in found)
    return {kind: _noise(values) for kind, values in kinds.items() if values}


def _noise(values: Iterable[float]) -> Noise:
    errors = list(values)
    inexact = [error for error in errors if error > 0]
    if not inexact:
        return Noise(len(errors), len(errors), None, None, None)
    ratios = [-10 * math.log10(error) for error in inexact]
    mean = _rounded(sum(errors) / len(errors))
    return Noise(len(errors), len(errors) - len(inexact), round(min(ratios), 2), round(numbers.median(ratios), 2), mean)


def _rounded(error: float) -> float | None:
    ratio = decibels(error)
    return None if ratio is None else round(ratio, 2)
