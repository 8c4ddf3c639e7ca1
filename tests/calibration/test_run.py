"""The run on a shortened pocket: killed and split runs give the same statistics, and offloading changes nothing."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from ideogram_q8.calibration.run import CalibrationJob, CalibrationProgress, calibrate, caption_sha256, offload_blocks
from ideogram_q8.captions.calibration import named_captions
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.recipes.statistics import Statistics, merge, read
from ideogram_q8.runtime.generation.sampling import steps
from ideogram_q8.runtime.layers.packed import Fp8Linear
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.sources import open_source
from tests.calibration.test_statistics import assert_equal

CAPTIONS = named_captions("pocket")[:2]
JOB = CalibrationJob(open_source("pocket").record(), "turbo-12", 64, 64, sample_rows=16)


def shortened() -> Model:
    """The pocket with two of its blocks: the same code in less time."""
    model = load("pocket")
    model.config = dataclasses.replace(model.config, num_layers=2)
    for transformer in model.branches.values():
        transformer.layers = transformer.layers[:2]
    return model


@pytest.fixture(scope="module")
def model() -> Model:
    return shortened()


@pytest.fixture(scope="module")
def whole(model: Model) -> Statistics:
    return calibrate(model, CAPTIONS, JOB)


def test_all_steps_of_all_linears_are_seen(model: Model, whole: Statistics):
    assert isinstance(model.branches["conditional"].layers[0].attention.to_q, Fp8Linear)
    whole.check(model.config)
    assert whole.calibration == JOB.calibration(CAPTIONS)
    w2 = whole.get("unconditional", "layers.1.feed_forward.w2")
    assert w2 is not None and w2.step_count.tolist() == [2 * 16] * 12 and len(w2.sample) == 16
    text = whole.get("conditional", "llm_cond_proj")
    assert text is not None and text.step_count.tolist()[1:] == [0] * 11
    w1 = whole.get("conditional", "layers.0.feed_forward.w1")
    assert w1 is not None and w1.step_count.tolist() == [2 * 16 + int(text.count)] * 12
    assert whole.get("unconditional", "llm_cond_proj") is None
    modulation = whole.get("conditional", "layers.0.adaln_modulation")
    assert modulation is not None and modulation.step_count.tolist() == [2] * 12
    image = whole.get("conditional", "input_proj")
    assert image is not None and (image.step_peak_mean > 1).all()


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(model: Model, whole: Statistics, tmp_path: Path):
    partial = tmp_path / "stats.safetensors.partial"
    seen: list[CalibrationProgress] = []

    def stop(progress: CalibrationProgress) -> None:
        seen.append(progress)
        if progress.done_steps == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, CAPTIONS, JOB, partial=partial, on_progress=stop)
    assert [progress.done_steps for progress in seen] == [*range(13), 13, 14]
    assert not any(module._forward_pre_hooks for module in model.branches["conditional"].modules())
    first = read(partial)
    assert first.calibration.captions == (caption_sha256(CAPTIONS[0]),)
    seen.clear()
    resumed = calibrate(model, CAPTIONS, JOB, partial=partial, on_progress=seen.append)
    assert seen[0] == CalibrationProgress(1, 2, 12, 24) and seen[-1] == CalibrationProgress(1, 2, 24, 24)
    assert_equal(resumed, whole)
    assert_equal(read(partial), whole)
    assert_equal(calibrate(model, CAPTIONS, JOB, partial=partial), whole)  # nothing left to do

    second = calibrate(model, CAPTIONS[1:], JOB)  # as on another machine
    assert_equal(merge([second, first]), whole)
    with pytest.raises(ArtifactError, match="1 captions that are not asked for"):
        calibrate(model, CAPTIONS[1:], JOB, partial=partial)
    with pytest.raises(ArtifactError, match="was left by a run with another model or setting"):
        calibrate(model, CAPTIONS, dataclasses.replace(JOB, seed=1), partial=partial)


def test_offloaded_blocks_compute_the_same(model: Model):
    offloaded = shortened()
    offload_blocks(offloaded, torch.device("cpu"))
    request = JOB.request(CAPTIONS[0])
    for ours, plain in itertools.islice(zip(steps(offloaded, request), steps(model, request), strict=True), 2):
        assert torch.equal(ours.latents, plain.latents)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offloading_to_a_gpu_records_what_the_cpu_records(whole: Statistics):
    model = shortened()
    offload_blocks(model, torch.device("cuda"))
    found = calibrate(model, CAPTIONS, JOB)
    assert list(found.entries) == list(whole.entries)
    for key, entry in found.entries.items():
        assert torch.allclose(entry.amax, whole.entries[key].amax, rtol=0.02, atol=0.02 * float(entry.amax.max()))
        assert torch.equal(entry.sample_key, whole.entries[key].sample_key)


@pytest.mark.parametrize(
    ("captions", "changes", "message"),
    [
        ((), {}, "got 0 captions"),
        (CAPTIONS[:1] * 2, {}, "got 2 captions, 1 different ones"),
        (CAPTIONS, {"sample_rows": 0}, "sample rows are 0"),
        (CAPTIONS, {"preset": "turbo"}, "unknown preset 'turbo'"),
        (CAPTIONS, {"width": 65}, "width is 65"),
    ],
)
def test_bad_jobs_are_refused_before_any_work(model: Model, captions: tuple[str, ...], changes: dict[str, int], message: str):
    with pytest.raises(RequestError, match=message):
        calibrate(model, captions, dataclasses.replace(JOB, **changes), on_progress=lambda _: pytest.fail("worked"))


def test_a_captions_seed_is_its_own():
    requests = [JOB.request(caption) for caption in CAPTIONS]
    assert requests[0].seed != requests[1].seed
    assert dataclasses.replace(JOB, seed=5).request(CAPTIONS[0]).seed == requests[0].seed + 5
