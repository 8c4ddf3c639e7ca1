"""The calibration run: paint every caption, record every step; of the text encoder: read every caption.

It is `generation.steps`, the loop that makes pictures, watched by a `Recorder`; nothing is decoded. Or it is
`text.text_features`, without any transformer. Each caption gives statistics
of its own, which are merged into those of the captions before: what is on disk after a caption is a valid stats file, a killed
run goes on from it, and it ends with the same bits as one that was never killed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from ideogram_q8.builds.folder import check_space
from ideogram_q8.calibration.recorder import Recorder
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import SourceRecord
from ideogram_q8.model.architecture import MAX_SEED, PartName, preset
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, TextEncoderConfig
from ideogram_q8.recipes import statistics
from ideogram_q8.recipes.statistics import Calibration, Statistics
from ideogram_q8.runtime.generation.sampling import Request, steps
from ideogram_q8.runtime.loading.model import Model
from ideogram_q8.runtime.loading.text_encoder import TextEncoder
from ideogram_q8.runtime.text.encoding import text_features

DEFAULT_SAMPLE_ROWS = 128
OnStep = Callable[[int], None]
"""Called with how many steps of a caption are done."""
_Network = TypeVar("_Network", contravariant=True)


class Work(Protocol[_Network]):
    """What is done with each caption, and what is known of it beforehand."""

    @property
    def sample_rows(self) -> int: ...

    def dimensions(self, network: _Network) -> Dimensions: ...

    def check(self, network: _Network, captions: Sequence[str]) -> None:
        """Raises RequestError: what the network cannot honour."""

    def calibration(self, captions: Sequence[str]) -> Calibration:
        """The record of a run over these canonical captions."""

    def record(self, network: _Network, caption: str, on_step: OnStep) -> Statistics:
        """The statistics of one caption."""


@dataclass(frozen=True)
class CalibrationJob:
    """Painting: preset name, size in pixels, a number added to each caption's own seed, rows to keep."""

    source: SourceRecord
    preset: str
    width: int
    height: int
    seed: int = 0
    sample_rows: int = DEFAULT_SAMPLE_ROWS

    def dimensions(self, network: Model) -> Dimensions:
        return network.config

    def check(self, network: Model, captions: Sequence[str]) -> None:
        """Raises RequestError: preset, size or caption is none that the model can honour, or a transformer would not run."""
        for caption in captions:
            request = self.request(caption)
            request.check(network.traits, network.branches)
            if len(request.branches(network.traits)) < len(network.branches):
                raise RequestError(
                    f"preset {self.preset} has guidance 1 and runs the conditional transformer only; expected a preset that runs both "
                    "of this model's, or else the other one has no statistics"
                )

    def calibration(self, captions: Sequence[str]) -> Calibration:
        """The record of a run over these canonical captions."""
        digests = tuple(sorted(caption_sha256(caption) for caption in captions))
        setting = (self.preset, self.width, self.height, self.seed, preset(self.preset).steps, self.sample_rows)
        return Calibration(statistics.FORMAT_VERSION, self.source, digests, *setting)

    def request(self, caption: str) -> Request:
        """The picture that is painted for a caption. Its seed comes from the caption, so no order or split changes it."""
        seed = (int(caption_sha256(caption)[:15], 16) + self.seed) % (MAX_SEED + 1)
        return Request(caption, seed, self.preset, self.width, self.height)

    def record(self, network: Model, caption: str, on_step: OnStep) -> Statistics:
        """Paints the caption, watching all branches."""
        request = self.request(caption)
        label = f"{caption_sha256(caption)}/{request.seed}"
        watched: dict[PartName, nn.Module] = {branch: network.branches[branch] for branch in network.branches}
        with Recorder(watched, network.config, self.calibration([caption]), label) as recorder:
            for step in steps(network, request):
                recorder.step = step.index + 1
                on_step(step.index + 1)
        return recorder.finish()


@dataclass(frozen=True)
class EncoderJob:
    """Reading: each caption once, by the text encoder of these dimensions; rows to keep."""

    source: SourceRecord
    config: TextEncoderConfig
    sample_rows: int = DEFAULT_SAMPLE_ROWS

    def dimensions(self, _network: TextEncoder) -> Dimensions:
        return self.config

    def check(self, _network: TextEncoder, captions: Sequence[str]) -> None:
        """Raises RequestError: a caption is empty."""
        if not all(caption.strip() for caption in captions):
            raise RequestError("a caption is empty; describe the picture")

    def calibration(self, captions: Sequence[str]) -> Calibration:
        """The record of a run over these canonical captions."""
        digests = tuple(sorted(caption_sha256(caption) for caption in captions))
        return Calibration(statistics.FORMAT_VERSION, self.source, digests, "", 0, 0, 0, 1, self.sample_rows)

    def record(self, network: TextEncoder, caption: str, on_step: OnStep) -> Statistics:
        """Encodes the caption, watching the language model."""
        named = nn.ModuleDict({LANGUAGE_MODEL.rstrip("."): network.model})
        with Recorder({"text_encoder": named}, self.config, self.calibration([caption]), caption_sha256(caption)) as recorder:
            text_features(network.model, network.tokenizer, caption)
        on_step(1)
        return recorder.finish()


@dataclass(frozen=True)
class CalibrationProgress:
    """Captions and denoising steps (of all captions), those of a continued run included."""

    done_captions: int
    captions: int
    done_steps: int
    steps: int


def caption_sha256(caption: str) -> str:
    """The identity of a canonical caption: sha256 of its UTF-8 text in hexadecimal."""
    return hashlib.sha256(caption.encode()).hexdigest()


def calibrate(
    model: _Network,
    captions: Sequence[str],
    job: Work[_Network],
    *,
    partial: Path | None = None,
    on_progress: Callable[[CalibrationProgress], None] | None = None,
) -> Statistics:
    """Statistics of all Linears over all captions; `on_progress` sees every step and may raise to stop.

    Args:
        model: what `job` runs: a `Model`, or a `TextEncoder`.
        captions: canonical texts, no two the same.
        partial: keeps the finished captions; a run that finds the file goes on from there. The caller removes it.

    Raises:
        RequestError: nothing to run, or not what the model can honour; before any work.
        CaptionError: a caption has too many tokens.
        ArtifactError: `partial` belongs to another run, or values are not finite.
        ResourceError: no room on the disk or the device.
    """
    calibration = _checked(model, captions, job)
    total: Statistics | None = None
    if partial is not None:
        check_space(
            partial.parent, 2 * statistics.predicted_bytes(job.dimensions(model), calibration.steps, calibration.sample_rows)
        )
        total = _resume(partial, calibration)
    done = set() if total is None else set(total.calibration.captions)

    def show(step: int) -> None:
        if on_progress is not None:
            done_steps, all_steps = len(done) * calibration.steps + step, len(captions) * calibration.steps
            on_progress(CalibrationProgress(len(done), len(captions), done_steps, all_steps))

    show(0)
    for caption in captions:
        if caption_sha256(caption) in done:
            continue
        found = job.record(model, caption, show)
        total = found if total is None else statistics.merge([total, found])
        if partial is not None:
            statistics.write(partial, total)
        done.add(caption_sha256(caption))
    assert total is not None
    return total


def _checked(model: _Network, captions: Sequence[str], job: Work[_Network]) -> Calibration:
    if not captions or len(set(captions)) != len(captions):
        different = len(set(captions))
        raise RequestError(f"got {len(captions)} captions, {different} different ones; expected at least one, none twice")
    if job.sample_rows < 1:
        raise RequestError(f"sample rows are {job.sample_rows}; expected at least 1")
    job.check(model, captions)
    return job.calibration(captions)


def _resume(partial: Path, calibration: Calibration) -> Statistics | None:
    if not partial.exists():
        return None
    found = statistics.read(partial)
    extra = set(found.calibration.captions) - set(calibration.captions)
    same = Calibration(**{**vars(found.calibration), "captions": calibration.captions}) == calibration
    if extra or not same:
        reason = f"{len(extra)} captions that are not asked for" if extra else "another model or setting"
        raise ArtifactError(f"{partial} was left by a run with {reason}; finish that run, or remove the file to start again")
    return found


def offload_blocks(model: Model, device: torch.device) -> None:
    """Makes a model that was loaded on the CPU run on `device`, for good, where that does not hold both transformers.

    The blocks of both are streamed (`ideogram_q8.runtime.loading.streaming`). What lies outside the blocks moves there now, the text
    encoder when it is loaded. The VAE stays, for calibrating decodes nothing.
    """
    model.stream([branch for branch in ("unconditional", "conditional") if branch in model.branches], device)
