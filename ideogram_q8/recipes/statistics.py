"""stats.safetensors: what the inputs of each Linear were like, per branch or of the text encoder; merging, writing, reading.

Sums and counts add up, maxima and the sample's smallest keys win: merging is commutative and associative but for the rounding of
float64 sums, so a run may be split over machines. Linears that share an input share the entry of the first. A Linear that never ran
has none either: nothing goes through the text projection of the unconditional branch. What this module does not know: modules,
prompts, sampling. Files may come from strangers: nothing in one is believed before it is checked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ideogram_q8.errors import ArtifactError, ResourceError
from ideogram_q8.formats import whole_file
from ideogram_q8.formats.manifest import SourceRecord
from ideogram_q8.formats.strict_json import decode, parse_json
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, PartName
from ideogram_q8.model.components import Dimensions, component

FORMAT_VERSION = 1
METADATA_KEY = "ideogram_q8.calibration"

Key = tuple[PartName, str]
"""Branch, or "text_encoder", and official name of a Linear."""


@dataclass(frozen=True)
class Calibration:
    """How statistics were made. `captions` are sha256s of canonical captions, sorted; sizes in pixels.

    Of a text encoder, which reads each caption once, `preset` is empty, sizes and seed are 0 and `steps` is 1.
    `seed` is added to each caption's own; `sample_rows` is the most input rows that are kept for a Linear.
    """

    format_version: int
    source: SourceRecord
    captions: tuple[str, ...]
    preset: str
    width: int
    height: int
    seed: int
    steps: int
    sample_rows: int


@dataclass(frozen=True, eq=False)
class LinearStatistics:
    """The inputs of one Linear, all tokens of all steps and captions together; tensors on the CPU.

    A token's peak is amax|x| / mean|x| of its row, from 1 (flat) to K (one value alone); a row of zeros counts as 1.
    """

    amax: torch.Tensor
    """float32 [K]: the largest |x| of each input channel."""
    square_sum: torch.Tensor
    """float64 [K]: the sum of x^2 of each input channel."""
    count: torch.Tensor
    """int64 [1]: tokens."""
    step_peak_sum: torch.Tensor
    """float64 [steps]: sum of the tokens' peaks at each denoising step."""
    step_peak_max: torch.Tensor
    """float32 [steps]: the largest peak; 0 where no token was seen."""
    step_count: torch.Tensor
    """int64 [steps]: tokens at each step."""
    sample: torch.Tensor
    """float32 [S, K]: input rows, S = min(count, sample_rows)."""
    sample_key: torch.Tensor
    """int64 [S], ascending: the rows' random priorities; the smallest of all tokens are kept."""

    @property
    def mean_square(self) -> torch.Tensor:
        """float64 [K]: E[x^2] of each input channel."""
        return self.square_sum / self.count

    @property
    def step_peak_mean(self) -> torch.Tensor:
        """float64 [steps]: the mean peak at each step; 0 where no token was seen."""
        return self.step_peak_sum / self.step_count.clamp_min(1)


_FIELDS: Mapping[str, str] = {
    "amax": "F32",
    "square_sum": "F64",
    "count": "I64",
    "step_peak_sum": "F64",
    "step_peak_max": "F32",
    "step_count": "I64",
    "sample": "F32",
    "sample_key": "I64",
}
"""By the names of their types in the file."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """A whole stats file."""

    calibration: Calibration
    entries: Mapping[Key, LinearStatistics]

    def get(self, branch: PartName, linear: str) -> LinearStatistics | None:
        """The inputs of a Linear (official name); None if it never ran."""
        return self.entries.get((branch, shared_input(linear)))

    def check(self, config: Dimensions, parts: Sequence[PartName] | None = None) -> None:
        """Raises ArtifactError unless the file is of such a model: Linears and widths known, those that see tokens all there.

        Args:
            parts: what the model has of the component's parts; None is all.
        """
        model = component(config)
        widths = {(part, shared_input(linear.name)): linear.in_features for part in model.parts for linear in model.linears}
        for (branch, linear), entry in self.entries.items():
            if widths.get((branch, linear)) != len(entry.amax):
                expected = f"{widths[branch, linear]} inputs" if (branch, linear) in widths else "no such Linear"
                raise ArtifactError(f"statistics: {branch} {linear} has {len(entry.amax)} inputs, the model has {expected}")
        for branch in model.parts if parts is None else parts:
            for wanted in model.linears:
                if wanted.sees_tokens and self.get(branch, wanted.name) is None:
                    raise ArtifactError(f"statistics: {branch} {wanted.name} is missing; calibrate this model")


_SHARED_INPUTS: Mapping[str, str] = {
    "feed_forward.w3": "feed_forward.w1",
    "self_attn.k_proj": "self_attn.q_proj",
    "self_attn.v_proj": "self_attn.q_proj",
    "mlp.up_proj": "mlp.gate_proj",
}


def shared_input(linear: str) -> str:
    """The Linear under whose name the inputs of `linear` are stored: w1 for w3, q_proj for k_proj, ..., or itself."""
    for kind, first in _SHARED_INPUTS.items():
        if linear.endswith(kind):
            return linear.removesuffix(kind) + first
    return linear


# ---- merging ----


def merge(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of all parts together; the order of the parts matters to the last bits of sums only.

    Raises:
        ArtifactError: parts of different models or settings, or with a caption in common.
    """
    total = parts[0]
    for part in parts[1:]:
        calibration = _merge_calibrations(total.calibration, part.calibration)
        entries = dict(total.entries)
        for key, entry in part.entries.items():
            entries[key] = _merge_entries(entries[key], entry, calibration.sample_rows) if key in entries else entry
        total = Statistics(calibration, dict(sorted(entries.items())))
    return total


def _merge_calibrations(a: Calibration, b: Calibration) -> Calibration:
    for name in ("preset", "width", "height", "seed", "steps", "sample_rows"):
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            raise ArtifactError(f"statistics differ in {name}: {left} and {right}; merge runs of one setting")
    if a.source.files != b.source.files:
        raise ArtifactError(f"statistics are of different weights: {a.source.location} and {b.source.location}")
    shared = sorted(set(a.captions) & set(b.captions))
    if shared:
        raise ArtifactError(f"{len(shared)} captions are in both statistics, first {shared[0]}; give each run its own captions")
    source = min(a.source, b.source, key=lambda source: (source.location, source.revision or ""))
    return dataclasses.replace(a, source=source, captions=tuple(sorted((*a.captions, *b.captions))))


def _merge_entries(a: LinearStatistics, b: LinearStatistics, sample_rows: int) -> LinearStatistics:
    if a.amax.shape != b.amax.shape:
        raise ArtifactError(f"statistics of one Linear have {len(a.amax)} and {len(b.amax)} inputs; are they of one model?")
    keys = torch.cat([a.sample_key, b.sample_key])
    kept = keys.argsort(stable=True)[:sample_rows]
    return LinearStatistics(
        amax=torch.maximum(a.amax, b.amax),
        square_sum=a.square_sum + b.square_sum,
        count=a.count + b.count,
        step_peak_sum=a.step_peak_sum + b.step_peak_sum,
        step_peak_max=torch.maximum(a.step_peak_max, b.step_peak_max),
        step_count=a.step_count + b.step_count,
        sample=torch.cat([a.sample, b.sample])[kept],
        sample_key=keys[kept],
    )


# ---- files ----


def write(path: Path, statistics: Statistics) -> None:
    """Writes `path` whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written to.
    """
    tensors = {
        f"{branch}/{linear}/{name}": getattr(entry, name).contiguous()
        for (branch, linear), entry in statistics.entries.items()
        for name in _FIELDS
    }
    from safetensors.torch import save_file  # imports torch, for which the app's page does not wait

    text = json.dumps(dataclasses.asdict(statistics.calibration), ensure_ascii=False)
    try:
        with whole_file.replacing(path) as temporary:
            save_file(tensors, temporary, metadata={METADATA_KEY: text})
    except (SafetensorError, OSError) as error:
        raise ResourceError(f"cannot write {path}: {error}; make room or name another place") from None


def predicted_bytes(config: Dimensions, steps: int, sample_rows: int) -> int:
    """An upper bound of the tensor data of a file for such a model, both branches where there are two."""
    model = component(config)
    names = {shared_input(linear.name): linear.in_features for linear in model.linears if linear.runs}
    return len(model.parts) * sum(
        width * (4 + 8 + 4 * sample_rows) + 8 + 20 * steps + 8 * sample_rows for width in names.values()
    )


def read(path: Path) -> Statistics:
    """Reads and checks a stats file.

    Raises:
        ArtifactError: no such file, not a whole stats file, or values that no calibration gives; names the tensor.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a FIFO would wait
        raise ArtifactError(f"{path} is no regular file; expected one that `calibrate` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            return _read(path, file)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is not a whole safetensors file: {error}; calibrate again") from None


def _read(path: Path, file: Any) -> Statistics:
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise ArtifactError(f"{path} has no {METADATA_KEY}; expected a file that `calibrate` wrote")
    calibration = _parse_calibration(text, str(path))
    groups: dict[Key, set[str]] = {}
    for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
        branch, _, rest = key.partition("/")
        linear, _, name = rest.rpartition("/")
        if branch not in COMPONENT_FOLDERS or not linear or name not in _FIELDS or linear != shared_input(linear):
            raise ArtifactError(f"{path}: {key[:200]!r} is no part of a stats file; expected BRANCH/LINEAR/FIELD")
        dtype = file.get_slice(key).get_dtype()
        if dtype != _FIELDS[name]:
            raise ArtifactError(f"{path}: {key} is {dtype}, expected {_FIELDS[name]}; calibrate again")
        groups.setdefault((branch, linear), set()).add(name)
    entries = {}
    for (branch, linear), names in sorted(groups.items()):
        where = f"{path}: {branch}/{linear}"
        missing = [name for name in _FIELDS if name not in names]
        if missing:
            raise ArtifactError(f"{where} lacks {', '.join(missing)}; calibrate again")
        entry = LinearStatistics(**{name: file.get_tensor(f"{branch}/{linear}/{name}") for name in _FIELDS})
        check_entry(entry, calibration, where)
        entries[branch, linear] = entry
    return Statistics(calibration, entries)


def _parse_calibration(text: str, where: str) -> Calibration:
    value = parse_json(text, where, ArtifactError)
    version = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        raise ArtifactError(f"{where}: format_version is {version}, expected {FORMAT_VERSION}; use another release")
    found = decode(Calibration, value, where, ArtifactError)
    if list(found.captions) != sorted(set(found.captions)) or min(found.steps, found.sample_rows) < 1:
        raise ArtifactError(f"{where}: captions are not sorted, or steps or sample_rows not positive; calibrate again")
    return found


def check_entry(entry: LinearStatistics, calibration: Calibration, where: str) -> None:
    """Raises ArtifactError unless shapes agree and the values are such as `calibration` can give."""
    width, count, steps = entry.amax.numel(), int(entry.count.sum()), calibration.steps
    rows = min(count, calibration.sample_rows)
    shapes = {name: tuple(getattr(entry, name).shape) for name in _FIELDS}
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(("step_peak_sum", "step_peak_max", "step_count"), (steps,))
    expected |= {"amax": (width,), "square_sum": (width,), "count": (1,), "sample": (rows, width), "sample_key": (rows,)}
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise ArtifactError(f"{where}/{name} has shape {list(shape)}, expected {list(expected[name])}; calibrate again")
    for problem in _impossible(entry, count):
        raise ArtifactError(f"{where}/{problem}; calibrate again")


def _impossible(entry: LinearStatistics, count: int) -> Iterable[str]:
    if not entry.amax.numel() or count < 1 or entry.step_count.min() < 0 or int(entry.step_count.sum()) != count:
        yield f"count is {count}, step_count sums to {int(entry.step_count.sum())}; expected the same, at least 1, and inputs"
    for name in ("amax", "square_sum", "step_peak_sum", "step_peak_max"):
        tensor = getattr(entry, name)
        if not (torch.isfinite(tensor) & (tensor >= 0)).all():
            yield f"{name} is not finite and at least 0 everywhere"
    if not (entry.sample.abs() <= entry.amax).all():
        yield "sample exceeds amax or is not finite"
    if entry.sample_key.min() < 0 or (entry.sample_key.diff() < 0).any():
        yield "sample_key is not ascending from 0"
