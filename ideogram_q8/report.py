"""report.json: what was measured, on what, with which settings. Strict, frozen, versioned; no torch.

The card and the UI show figures from here and from nowhere else, so a report cannot hold a figure without its count, and a
figure that is absent says why. Every interval is a 95 % one; `Settings.intervals` says how it was computed. A metric is added
by a row in `METRICS`; within one report all variants have the same metrics, measured or not.

What this module does not know: how anything is measured, files, rendering.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ideogram_q8.errors import ArtifactError
from ideogram_q8.strict_json import check_version, decode, is_finite, parse_json

FILE_NAME = "report.json"
FORMAT_VERSION = 2
DISTURBING_SHARE = 0.1
"""Other programs disturb a timing when they take more CPU time than this share of the measured program's threads."""


@dataclass(frozen=True)
class Metric:
    """A quantity a report may hold: its key, its title on a card and its unit ("1" = dimensionless)."""

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR to the reference, mean over pictures", "dB", "higher"),
        Metric("ssim", "SSIM to the reference, mean over pictures", "1", "higher"),
        Metric("lpips", "LPIPS to the reference, mean over pictures", "1", "lower"),
        Metric("ocr_exact_match", "Words read exactly by OCR, share", "1", "higher"),
        Metric("seconds_per_step", "Time per denoising step, median", "s", "lower"),
        Metric("peak_memory", "Peak memory while generating", "bytes", "lower"),
    )
}


@dataclass(frozen=True)
class Measured:
    """A figure from `n` observations in `unit`.

    `interval` is its 95 % interval (low, high), `quartiles` hold the middle half of the observations; None where not computed.
    """

    value: float
    n: int
    interval: tuple[float, float] | None
    unit: str
    quartiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _require(self.n >= 1, f"n is {self.n}, expected at least 1 observation")
        for name, (low, high) in {"interval": self.interval or (0, 0), "quartiles": self.quartiles or (0, 0)}.items():
            for number in (self.value, low, high):
                finite = is_finite(number)
                _require(finite, f"{number!r} is not a finite number; leave it out with not_measured and the reason")
            _require(low <= high, f"{name} is [{low}, {high}], expected [low, high]")


@dataclass(frozen=True)
class NotMeasured:
    """The reason why there is no figure."""

    not_measured: str

    def __post_init__(self) -> None:
        _require(bool(self.not_measured.strip()), "not_measured is empty, expected the reason")


Figure = Measured | NotMeasured


@dataclass(frozen=True)
class Hardware:
    """The machine: `device` is what ran the model ("cpu", "cuda"); memory in bytes."""

    device: str
    system: str
    processor: str
    threads: int
    memory_bytes: int
    accelerator: str | None
    accelerator_memory_bytes: int | None


@dataclass(frozen=True)
class Suite:
    """The captions: `sha256` over their file, `captions` how many."""

    name: str
    sha256: str
    captions: int

    def __post_init__(self) -> None:
        _require_sha256(self.sha256)


@dataclass(frozen=True)
class Settings:
    """What every variant had in common. `reference` is the variant the others are compared with."""

    preset: str
    width: int
    height: int
    seeds: tuple[int, ...]
    dtype: str
    reference: str
    intervals: str


@dataclass(frozen=True)
class VariantFile:
    """One weight file, size in bytes."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        _require_sha256(self.sha256)


@dataclass(frozen=True)
class Sample:
    """A picture that the variant painted: path beside the report, its caption and seed."""

    path: str
    sha256: str
    caption: str
    seed: int

    def __post_init__(self) -> None:
        _require_sha256(self.sha256)
        plain = re.fullmatch(r"([\w-][\w.-]*/)*[\w-][\w.-]*", self.path) is not None
        _require(plain, f"path is {self.path!r}, expected a relative one of letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class VariantReport:
    """The figures of one variant; `artifact_sha256` ties them to the files that were measured.

    `other_cpus` says how many CPUs other programs kept busy on average while it was timed; None where that is not known.
    """

    name: str
    artifact_sha256: str
    files: tuple[VariantFile, ...]
    samples: tuple[Sample, ...]
    other_cpus: float | None
    figures: Mapping[str, Figure]

    def __post_init__(self) -> None:
        _require_sha256(self.artifact_sha256)
        for name, figure in self.figures.items():
            _require(name in METRICS, f"figures has {name!r}, expected one of {', '.join(METRICS)}")
            if isinstance(figure, Measured):
                unit = METRICS[name].unit
                _require(figure.unit == unit, f"figures.{name} is in {figure.unit!r}, expected {unit!r}")


@dataclass(frozen=True)
class Report:
    """All of report.json. `software` maps a package to its version; `created` is UTC, 2026-08-31T23:59:59Z."""

    format_version: int
    tool_version: str
    created: str
    hardware: Hardware
    software: Mapping[str, str]
    suite: Suite
    settings: Settings
    variants: tuple[VariantReport, ...]

    def __post_init__(self) -> None:
        try:
            datetime.strptime(self.created, "%Y-%m-%dT%H:%M:%SZ")
        except ValueError as error:
            raise ArtifactError(f"created is {self.created!r}, expected UTC as 2026-08-31T23:59:59Z") from error
        names = [variant.name for variant in self.variants]
        _require(len(set(names)) == len(names), f"variants are {', '.join(names)}, expected each once")
        _require(self.settings.reference in names, f"settings.reference is {self.settings.reference!r}, expected a variant")
        for variant in self.variants:
            same = set(variant.figures) == set(self.variants[0].figures)
            _require(same, f"variant {variant.name!r} has other figures than {names[0]!r}; give not_measured and the reason")

    def variant(self, name: str) -> VariantReport | None:
        """The figures of a variant, None if it was not measured at all."""
        return next((variant for variant in self.variants if variant.name == name), None)

    @property
    def disturbed(self) -> bool | None:
        """Whether other programs ran while variants were timed, so that the times rank nothing; None where not known."""
        known = [variant.other_cpus for variant in self.variants if variant.other_cpus is not None]
        if len(known) < len(self.variants):
            return None
        return max(known) > DISTURBING_SHARE * self.hardware.threads

    def to_json(self) -> str:
        """The text of report.json: fields in the order above, mappings sorted by key, ends with a newline."""
        return json.dumps(_plain(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Reads report.json.

        Raises:
            ArtifactError: not JSON; a key is unknown, missing or twice; a value has the wrong type or makes no sense. The
                message names the key.
        """
        value = parse_json(text, FILE_NAME, ArtifactError)
        check_version(value, FORMAT_VERSION, FILE_NAME, ArtifactError, "measure again")
        return decode(cls, value, FILE_NAME, ArtifactError)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ArtifactError(message)


def _require_sha256(text: str) -> None:
    _require(re.fullmatch(r"[0-9a-f]{64}", text) is not None, f"{text!r} is not a sha256: expected 64 lower-case hex digits")


def _plain(value: object) -> object:
    """Frozen dataclasses to what `json.dumps` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
