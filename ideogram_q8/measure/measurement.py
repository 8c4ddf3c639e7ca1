"""One run, or one shard of a run: paints a suite with every variant in turn and measures the pictures.

    OUT/pictures/KEY/CASE.png, .json   what `painting` leaves; KEY is of weights, preset, size, types and software
    OUT/ways/KEY/CASE.safetensors      the reference's latents, step by step
    OUT/measured/NN-NAME-I-of-N.json   a variant's share of the suite, measured

A run that was stopped goes on: pictures are found by their key, and a variant's measurements by its pictures. Shards divide the captions,
not the variants, so that a picture and its reference come from one machine.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from ideogram_q8.builds.folder import disk_errors
from ideogram_q8.captions.suite import CaptionSuite, Case
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats import report, whole_file
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.strict_json import check_version, decode, parse_json
from ideogram_q8.machine import platforms as machine
from ideogram_q8.measure import latents
from ideogram_q8.measure.judging import Judges
from ideogram_q8.measure.painting import Item, Painted, PaintingOrder, paint, picture_path
from ideogram_q8.measure.places import MeasuredVariant, check_name
from ideogram_q8.measure.statistics import INTERVALS
from ideogram_q8.model.architecture import PRESETS, SIDE_MULTIPLE
from ideogram_q8.runtime.generation.sampling import Request

FORMAT_VERSION = 1
SOFTWARE = ("torch", "diffusers", "transformers", "torchmetrics", "rapidocr", "onnxruntime", "numpy", "scipy", "pillow")
CHANGES_PICTURES = ("torch", "diffusers", "transformers")
"""Libraries whose version is a part of a picture's key, beside this package's own."""


@dataclass(frozen=True)
class Shard:
    """Number `index` of `count`, from 1: every count-th caption."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise RequestError(f"the shard is {self.index}/{self.count}; expected I/N with I from 1 to N")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`I/N`. Raises RequestError."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise RequestError(f"the shard is {text!r}; expected I/N, as in 1/2")
        return cls(int(index), int(count))

    def takes(self, position: int) -> bool:
        """Whether the caption at this place of the suite, from 0, belongs to it."""
        return position % self.count == self.index - 1


@dataclass(frozen=True)
class Run:
    """What all variants and all shards of a comparison have in common; `places` are their names and identities, in order."""

    tool_version: str
    suite: report.Suite
    settings: report.Settings
    cases: tuple[report.CaseRecord, ...]
    places: Mapping[str, str]


@dataclass(frozen=True)
class Measurement:
    """One picture: its caption's place in the suite, what it took, what it is worth; `picture` is relative to OUT."""

    position: int
    picture: str
    painted: Painted
    values: Mapping[str, float | None]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"pictures/[\w-][\w.-]*/[\w-][\w.-]*\.png", self.picture):
            raise ArtifactError(f"the picture is {self.picture!r}, expected pictures/FOLDER/NAME.png; measure again")


@dataclass(frozen=True)
class Share:
    """A variant's pictures of one shard. `missing` has the reasons why metrics have no values."""

    format_version: int
    run: Run
    hardware: report.Hardware
    software: Mapping[str, str]
    name: str
    artifact_sha256: str
    files: tuple[report.VariantFile, ...]
    missing: Mapping[str, str]
    pictures: tuple[Measurement, ...]

    def __post_init__(self) -> None:
        check_name(self.name)

    def to_json(self) -> str:
        """`from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Share:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        value = parse_json(text, where, ArtifactError)
        check_version(value, FORMAT_VERSION, where, ArtifactError, "measure again")
        return decode(cls, value, where, ArtifactError)


@dataclass(frozen=True)
class EvaluationJob:
    """A comparison to be measured; the first place is the reference."""

    places: Sequence[MeasuredVariant]
    suite: CaptionSuite
    preset: str
    size: tuple[int, int]
    device: str
    dtype: str
    out: Path
    shard: Shard = Shard()

    @property
    def run(self) -> Run:
        cases = self.suite.cases
        seeds = tuple(case.seed for case in cases)
        return Run(
            tool_version=TOOL_VERSION,
            suite=report.Suite(self.suite.name, self.suite.sha256, len(cases)),
            settings=report.Settings(self.preset, *self.size, seeds, self.dtype, self.places[0].name, INTERVALS),
            cases=tuple(report.CaseRecord(case.id, case.category) for case in cases),
            places={place.name: place.artifact_sha256 for place in self.places},
        )

    @property
    def own(self) -> list[tuple[int, Case]]:
        """This shard's captions and their places in the suite."""
        return [(i, case) for i, case in enumerate(self.suite.cases) if self.shard.takes(i)]

    def key(self, place: MeasuredVariant) -> str:
        """The folder of all pictures that would be the same: a name to recognise, and a digest of what made them."""
        versions = [version for name, version in software().items() if name in CHANGES_PICTURES]
        made = [place.artifact_sha256, self.preset, *self.size, self.dtype, self.device, TOOL_VERSION, *versions]
        return f"{place.name}-{hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]}"

    def order(self, index: int) -> PaintingOrder:
        """What the variant of this number has to paint."""
        place, first = self.places[index], self.places[0]
        return PaintingOrder(
            location=place.location,
            artifact_sha256=place.artifact_sha256,
            device=self.device,
            dtype=self.dtype,
            attention=place.attention,
            compute=place.compute,
            folder=str(self.out / "pictures" / self.key(place)),
            reference=None if index == 0 else first.artifact_sha256,
            items=tuple(self._item(position, case) for position, case in self.own),
            later=len(self.own) * (len(self.places) - index - 1),
        )

    def _item(self, position: int, case: Case) -> Item:
        name = case.id.replace("/", "--")
        way = self.out / "ways" / self.key(self.places[0]) / f"{name}.safetensors"
        kept = position < self.kept_ways
        return Item(name, Request(case.caption, case.seed, self.preset, *self.size), str(way) if kept else None)

    @property
    def kept_ways(self) -> int:
        """The first captions of the suite, whose ways are compared."""
        tokens = self.size[0] * self.size[1] // SIDE_MULTIPLE**2
        return latents.MOST_BYTES // latents.way_bytes(PRESETS[self.preset].steps, tokens, self.places[0].channels)


def measure(job: EvaluationJob, judges: Judges) -> None:
    """Paints and measures the shard, one variant after the other, and writes `OUT/measured`.

    Raises:
        RequestError: a variant cannot be painted with.
        ResourceError: the disk is full.
    """
    (job.out / "ways" / job.key(job.places[0])).mkdir(parents=True, exist_ok=True)
    (job.out / "measured").mkdir(parents=True, exist_ok=True)
    reference = job.order(0)
    for index, place in enumerate(job.places):
        order = job.order(index)
        painted = paint(order)
        file = job.out / "measured" / f"{index:02}-{place.name}-{job.shard.index}-of-{job.shard.count}.json"
        if not _is_of(file, job.run, painted):
            share = _share(job, place, order, None if index == 0 else reference, painted, judges)
            with disk_errors(file.parent):
                whole_file.write_text(file, share.to_json())


def _is_of(file: Path, run: Run, painted: Sequence[Painted]) -> bool:
    """Whether these very pictures have been measured in this run already."""
    try:
        share = Share.from_json(file.read_text(encoding="utf-8"), file.name)
    except (OSError, ArtifactError):
        return False
    return share.run == run and [picture.painted for picture in share.pictures] == list(painted)


def _share(
    job: EvaluationJob,
    place: MeasuredVariant,
    order: PaintingOrder,
    reference: PaintingOrder | None,
    painted: Sequence[Painted],
    judges: Judges,
) -> Share:
    pictures = []
    rows = list(zip(job.own, order.items, painted, strict=True))
    for (position, case), item, record in tqdm(rows, desc=f"measuring {place.name}", unit="picture"):
        path = picture_path(order.folder, item)
        theirs = None if reference is None else open_picture(picture_path(reference.folder, item))
        values = judges.values(open_picture(path), case, theirs, record.errors)
        pictures.append(Measurement(position, path.relative_to(job.out).as_posix(), record, values))
    return Share(
        format_version=FORMAT_VERSION,
        run=job.run,
        hardware=hardware(job.device),
        software=software(),
        name=place.name,
        artifact_sha256=place.artifact_sha256,
        files=place.files,
        missing=judges.missing,
        pictures=tuple(pictures),
    )


def open_picture(path: Path) -> Image.Image:
    """RGB, read whole."""
    with Image.open(path) as image:
        return image.convert("RGB")


@functools.cache
def software() -> Mapping[str, str]:
    """Versions of the libraries that figures depend on; without those that are not installed."""
    installed = {name: _version(name) for name in SOFTWARE}
    return {name: version for name, version in installed.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def hardware(device: str) -> report.Hardware:
    """This machine, as the report names it."""
    processor = f"{machine.here.processor()} ({torch.backends.cpu.get_cpu_capability()})"
    card: Any = torch.cuda.get_device_properties(device) if device == "cuda" else None
    return report.Hardware(
        device=device,
        system=platform.system(),
        processor=processor,
        threads=torch.get_num_threads(),
        memory_bytes=machine.here.memory().total or 0,
        accelerator=None if card is None else card.name,
        accelerator_memory_bytes=None if card is None else card.total_memory,
    )
