"""report.json: what was measured, on what, with which settings. Strict, frozen, versioned; no torch.

The card and the UI show figures from here and from nowhere else, so a report cannot hold a figure without its count, and a
figure that is absent says why. Every interval is a 95 % one; `Settings.intervals` says how it was computed. Its metrics are
those of `formats.metrics`; within one report all variants have the same metrics, measured or not. Values caption by caption stay in
the report, so that its statistics can be computed again.

What this module does not know: how anything is measured, files, rendering.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.names import is_line, is_name, is_sha256, is_version
from ideogram_q8.formats.strict_json import check_version, decode, is_finite, parse_json

FILE_NAME = "report.json"
FORMAT_VERSION = 3
DISTURBING_SHARE = 0.1
"""Other programs disturb a timing when they take more CPU time than this share of the measured program's threads."""


Verdict = Literal["equal", "better", "worse", "undecided"]


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

    def __post_init__(self) -> None:
        _require_text(is_name(self.device), "device", self.device, "a device's name")
        for name in ("system", "processor", "accelerator"):
            text = getattr(self, name)
            _require_text(text is None or is_line(text, 200), name, text, "a short line")


@dataclass(frozen=True)
class CaseRecord:
    """A caption of the suite: its id there and its category."""

    id: str
    category: str

    def __post_init__(self) -> None:
        for name in ("id", "category"):
            _require_text(is_line(getattr(self, name), 200), name, getattr(self, name), "a short line")


@dataclass(frozen=True)
class Suite:
    """The captions: `sha256` over them all, `captions` how many."""

    name: str
    sha256: str
    captions: int

    def __post_init__(self) -> None:
        _require_text(is_line(self.name, 100), "name", self.name, "a short line")
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

    def __post_init__(self) -> None:
        for name in ("preset", "dtype", "reference"):
            _require_text(is_name(getattr(self, name)), name, getattr(self, name), "a short name")
        _require_text(is_line(self.intervals, 300), "intervals", self.intervals, "a line")


@dataclass(frozen=True)
class VariantFile:
    """One weight file, size in bytes."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        _require_text(is_line(self.path, 4096), "path", self.path, "a file's path")
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
        plain = re.fullmatch(r"([\w-][\w.-]*/)*[\w-][\w.-]*", self.path, re.ASCII) is not None
        _require(plain, f"path is {self.path!r}, expected a relative one of letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class StepError:
    """How far a variant is from the reference after one denoising step, each on its own way from the same noise.

    `latent_mse` is the mean over captions of the squared error of the latents; `velocity_snr` of the velocity's signal to noise in
    dB, with its 95 % interval.
    """

    latent_mse: float
    velocity_snr: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """A metric of a variant less that of another, caption by caption.

    Attributes:
        n: captions that both have a value for.
        difference: mean of candidate less baseline; `percentile` and `bca` are its 95 % bootstrap intervals.
        p, p_holm: two-sided sign-flip test of no difference, plain and corrected over the metrics of the pair.
        p_equivalence: of a difference of `margin` or more either way, corrected likewise; small means equal.
        captions_needed: to find a difference of `margin` in 80 % of suites.
    """

    metric: str
    candidate: str
    baseline: str
    n: int
    difference: float
    percentile: tuple[float, float]
    bca: tuple[float, float]
    p: float
    p_holm: float
    p_equivalence: float
    margin: float
    captions_needed: int
    verdict: Verdict


@dataclass(frozen=True)
class VariantReport:
    """The figures of one variant; `artifact_sha256` ties them to the files that were measured.

    Attributes:
        other_cpus: CPUs that other programs kept busy on average while it was timed; None where that is not known.
        values: by metric, one value a caption in the suite's order, None where the metric does not apply to it.
        steps: by denoising step; empty for the reference, and where no latents were compared.
    """

    name: str
    artifact_sha256: str
    files: tuple[VariantFile, ...]
    samples: tuple[Sample, ...]
    other_cpus: float | None
    figures: Mapping[str, Figure]
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    steps: tuple[StepError, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all its weight files."""
        return sum(file.size for file in self.files)

    def __post_init__(self) -> None:
        _require_text(is_name(self.name), "name", self.name, "a short name")
        _require_sha256(self.artifact_sha256)
        for name in self.values:
            _require(name in self.figures, f"values has {name!r}, expected a metric of figures")
        for name, figure in self.figures.items():
            _require(name in METRICS, f"figures has {name!r}, expected one of {', '.join(METRICS)}")
            if isinstance(figure, Measured):
                unit = METRICS[name].unit
                _require(figure.unit == unit, f"figures.{name} is in {figure.unit!r}, expected {unit!r}")


@dataclass(frozen=True)
class Report:
    """All of report.json. `software` maps a package to its version; `created` is UTC, 2026-08-31T23:59:59Z.

    `cases` are the suite's captions in the order of all values.
    """

    format_version: int
    tool_version: str
    created: str
    hardware: Hardware
    software: Mapping[str, str]
    suite: Suite
    settings: Settings
    variants: tuple[VariantReport, ...]
    cases: tuple[CaseRecord, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        try:
            datetime.strptime(self.created, "%Y-%m-%dT%H:%M:%SZ")
        except ValueError as error:
            raise ArtifactError(f"created is {self.created!r}, expected UTC as 2026-08-31T23:59:59Z") from error
        _require_text(is_version(self.tool_version), "tool_version", self.tool_version, "a version")
        for name, version in self.software.items():
            _require_text(is_name(name), "software", name, "names of packages")
            _require_text(is_version(version), f"software[{name!r}]", version, "a version")
        listed = len(self.cases)
        _require(listed in (0, self.suite.captions), f"cases are {listed}, expected as many as captions, {self.suite.captions}")
        names = [variant.name for variant in self.variants]
        _require(len(set(names)) == len(names), f"variants are {', '.join(names)}, expected each once")
        _require(self.settings.reference in names, f"settings.reference is {self.settings.reference!r}, expected a variant")
        for variant in self.variants:
            same = set(variant.figures) == set(self.variants[0].figures)
            _require(same, f"variant {variant.name!r} has other figures than {names[0]!r}; give not_measured and the reason")
            for name, values in variant.values.items():
                _require(
                    len(values) == self.suite.captions,
                    f"variant {variant.name!r} has {len(values)} values of {name}, expected {self.suite.captions}",
                )
        for comparison in self.comparisons:
            known = comparison.candidate in names and comparison.baseline in names and comparison.metric in METRICS
            _require(
                known,
                f"comparisons has {comparison.metric} of {comparison.candidate} and {comparison.baseline}, expected variants",
            )

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

    def comparison(self, candidate: str, baseline: str, metric: str) -> Comparison | None:
        """What was found of a metric of two variants, None if they were not compared this way round."""
        wanted = (candidate, baseline, metric)
        return next((c for c in self.comparisons if (c.candidate, c.baseline, c.metric) == wanted), None)

    def to_json(self) -> str:
        """The text of report.json: fields in the order above, mappings sorted by key, numbers of a list in one line."""
        return _text(_plain(self)) + "\n"

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


def _require_text(condition: bool, key: str, found: object, expected: str) -> None:
    _require(condition, f"{key} is {repr(found)[:80]}, expected {expected}")


def _require_sha256(text: str) -> None:
    _require(is_sha256(text), f"{text!r} is not a sha256: expected 64 lower-case hex digits")


def _plain(value: object) -> object:
    """Frozen dataclasses to what `json.dumps` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _text(value: object, indent: str = "") -> str:
    """JSON, indented by two, except lists without lists or objects in them."""
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_text(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(f"{deeper}{_text(item, deeper)}" for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
