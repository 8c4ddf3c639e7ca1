"""Our loop against diffusers' pipeline, and what a request, a seed and a closed iterator promise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Ideogram4Pipeline
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import _logit_normal_sigmas, _resolution_aware_mu
from torch.utils.flop_counter import FlopCounterMode

from ideogram_q8.errors import ArtifactError, CaptionError, RequestError
from ideogram_q8.formats.png import read_metadata, write_png
from ideogram_q8.model.architecture import PRESETS, preset
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.pocket.data import held_out_scenes
from ideogram_q8.pocket.tokenizer import caption_text
from ideogram_q8.runtime.generation import decoding, sampling
from ideogram_q8.runtime.generation.denoising import Denoiser
from ideogram_q8.runtime.generation.sampling import Request, generate, initial_noise, metadata, picture, steps
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.memory import budget, usage
from tests.stock import stock_pipeline

pytestmark = pytest.mark.slow

PLAIN = '{"high_level_description":"a red star on a blue background","compositional_deconstruction":{"background":"","elements":[]}}'
CAPTIONS = [*(caption_text(scene) for scene in held_out_scenes(3)), PLAIN]


@pytest.fixture(scope="module")
def model() -> Model:
    return load("pocket")


@pytest.fixture(scope="module")
def stock() -> Ideogram4Pipeline:
    return stock_pipeline(WEIGHTS)


def request(seed: int = 7, caption: str = CAPTIONS[0], name: str = "turbo-12") -> Request:
    return Request(caption, seed, name, 128, 128)


@pytest.mark.parametrize(("caption", "size"), [*((caption, (128, 128)) for caption in CAPTIONS), (PLAIN, (160, 96))])
def test_equals_the_stock_pipeline(model: Model, stock: Ideogram4Pipeline, caption: str, size: tuple[int, int]) -> None:
    asked, setting = Request(caption, 11, "turbo-12", *size), PRESETS["turbo-12"]
    noise = initial_noise(asked, model.config.in_channels)
    expected = stock(
        caption,
        height=asked.height,
        width=asked.width,
        num_inference_steps=setting.steps,
        guidance_schedule=list(setting.guidance(model.traits)),
        mu=setting.mu,
        std=setting.std,
        max_sequence_length=128,
        latents=noise,
    ).images[0]
    difference = np.asarray(expected, dtype=np.int16) - np.asarray(generate(model, asked).image)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("width", "height"), [(128, 128), (1024, 1024), (2048, 768)])
def test_the_schedule_is_the_stock_pipelines(name: str, width: int, height: int) -> None:
    setting = PRESETS[name]
    expected = _logit_normal_sigmas(setting.steps, _resolution_aware_mu(height, width, setting.mu), setting.std)
    levels = sampling.sigmas(setting, width, height)
    assert levels == [*expected.tolist(), 0.0]
    assert levels == sorted(levels, reverse=True)


def test_a_seed_gives_the_same_picture_twice_and_another_seed_another(model: Model) -> None:
    first, again, other = (generate(model, request(seed)) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert first.image.size == (128, 128) and first.image.mode == "RGB"


def guided_by_arithmetic(model: Model, asked: Request) -> torch.Tensor:
    """Final latents where both branches are computed and mixed by lerp, whatever the guidance."""
    setting = PRESETS[asked.preset]
    levels = sampling.sigmas(setting, asked.width, asked.height)
    projected, t = sampling.encode_caption(model, asked.caption), sampling.timesteps(levels[:-1])
    conditional = Denoiser(model.branches["conditional"], projected, asked.grid, t)
    unconditional = Denoiser(model.branches["unconditional"], projected[:0], asked.grid, t)
    latents = initial_noise(asked, model.config.in_channels)
    for i, guidance in enumerate(setting.guidance(model.traits)):
        velocity = torch.lerp(unconditional.velocity(latents, i), conditional.velocity(latents, i), guidance)
        latents = torch.add(latents, velocity, alpha=levels[i] - levels[i + 1])
    return latents


@pytest.mark.parametrize("name", ["instant-8", "fast-20", "custom-4-g1"])
def test_guidance_of_one_never_runs_the_unconditional_branch(model: Model, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits as with both branches mixed at guidance 1, by a model that has only one."""
    asked, alone = request(name=name), load("pocket", branches=("conditional",))
    assert set(alone.branches) == set(alone.schemes) == {"conditional"}
    made: list[object] = []
    monkeypatch.setattr(sampling, "Denoiser", lambda network, *rest: (made.append(network), Denoiser(network, *rest))[1])
    with torch.no_grad():
        found, lone = (list(steps(each, asked))[-1].latents for each in (model, alone))
        if name in PRESETS:
            assert torch.equal(found, guided_by_arithmetic(model, asked))
    assert torch.equal(found, lone) and made == [model.branches["conditional"], alone.branches["conditional"]]


def test_one_transformer_refuses_guidance_with_the_reason(model: Model) -> None:
    alone = dataclasses.replace(model, branches={"conditional": model.branches["conditional"]})
    expected = (
        "preset turbo-12 has guidance 3, which two transformers make, and here is one.*instant-8, fast-20 or custom-STEPS-g1"
    )
    with pytest.raises(RequestError, match=expected):
        steps(alone, request())


def test_steps_tell_where_they_are(model: Model) -> None:
    seen = list(steps(model, request()))
    assert [(step.index, step.total, step.is_last) for step in seen] == [(i, 12, i == 11) for i in range(12)]
    assert [step.sigma for step in seen] == sampling.sigmas(preset("turbo-12"), 128, 128)[:-1]
    assert all(step.seconds > 0 for step in seen)
    assert torch.allclose(seen[-1].latents, seen[-1].clean, atol=1e-5)


def test_a_preview_resembles_the_picture(model: Model) -> None:
    last = list(steps(model, request()))[-1]
    image, final = last.preview(), picture(model, last.latents, last.request.grid)
    assert image.size == final.size
    error = np.asarray(image, dtype=np.float64) - np.asarray(final, dtype=np.float64)
    assert np.abs(error).mean() < 0.5 * np.asarray(final, dtype=np.float64).std()


def test_a_preview_costs_less_than_a_hundredth_of_a_step(model: Model) -> None:
    """Counted in multiplications, for times depend on what else the machine does."""
    found = steps(model, request())
    next(found).preview()  # fits the imitation, once for a model
    with FlopCounterMode(display=False) as painting:
        step = next(found)
    with FlopCounterMode(display=False) as previewing:
        step.preview()
    assert 0 < previewing.get_total_flops() < 0.01 * painting.get_total_flops()


def test_closing_the_iterator_stops_the_work(model: Model) -> None:
    calls: list[int] = []
    hook = model.branches["conditional"].final_layer.linear.register_forward_hook(lambda *_: calls.append(1))
    iterator = steps(model, request())
    assert not calls
    next(iterator)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    hook.remove()
    assert len(calls) == 2
    assert torch.is_grad_enabled()


def test_a_callback_cancels_by_raising(model: Model) -> None:
    def stop(step: sampling.Step) -> None:
        if step.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, request(), stop)


def test_the_text_encoder_can_be_freed_and_comes_back(model: Model) -> None:
    before = sampling.encode_caption(model, CAPTIONS[0])
    model.free_text_encoder()
    assert torch.equal(sampling.encode_caption(model, CAPTIONS[0]), before)
    assert before.shape[1] == model.config.hidden_size and before.dtype == model.dtype


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Request(" ", 1, "turbo-12", 128, 128), "the caption is empty"),
        (Request("x", -1, "turbo-12", 128, 128), "seed is -1; expected an integer from 0 to"),
        (Request("x", 2**63, "turbo-12", 128, 128), "seed is 9223372036854775808"),
        (Request("x", 1, "turbo", 128, 128), "unknown preset 'turbo'"),
        (Request("x", 1, "turbo-12", 129, 128), "width is 129"),
        (Request("x", 1, "turbo-12", 128, 4096), "height is 4096"),
    ],
)
def test_bad_requests_are_refused_before_any_work(model: Model, asked: Request, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        steps(model, asked)


def test_a_caption_that_is_too_long_is_refused(model: Model) -> None:
    caption = json.dumps({"high_level_description": "Q" * 5000})
    with pytest.raises(CaptionError, match=r"the caption has 50\d\d tokens; the model reads 2048"):
        next(steps(model, request(caption=caption)))


def test_values_that_are_not_finite_are_refused() -> None:
    broken = load("pocket")
    broken.branches["unconditional"].layers[0].attention_norm1.weight.fill_(float("nan"))
    with pytest.raises(ArtifactError, match=r"step 1 of 12 gave values that are not finite \(variant fp8"):
        generate(broken, request())


def test_the_result_says_how_to_make_it_again(model: Model, tmp_path: Path) -> None:
    result = generate(model, request(seed=2**60))
    assert result.variant == "fp8" and len(result.artifact_sha256) == 64
    assert 0 < result.seconds_per_step < result.total_seconds and result.peak_bytes > 0
    write_png(tmp_path / "a.png", result.image, metadata(result))
    stored = read_metadata(tmp_path / "a.png")
    again = Request(stored["caption"], stored["seed"], stored["preset"], stored["width"], stored["height"])  # type: ignore[arg-type]
    assert again == result.request


def test_bfloat16_takes_nearly_the_same_first_step(model: Model) -> None:
    fine = next(steps(model, request())).clean
    coarse = next(steps(load("pocket", dtype=torch.bfloat16), request())).clean
    assert 0 < (coarse - fine).norm() / fine.norm() < 0.05


def test_pixels_round_as_in_diffusers() -> None:
    pixels = torch.linspace(-1.2, 1.2, 300).reshape(1, 10, 30).expand(3, -1, -1)
    expected = ((pixels / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype("uint8")
    assert np.array_equal(np.asarray(decoding.to_image(pixels)), expected)


class Side:
    """Computes at once, and keeps what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.asked.append("start")
        return work()

    def join(self, found: torch.Tensor) -> None:
        self.asked.append("join")


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> list[Side]:
    """All that were made."""
    found: list[Side] = []

    def made(_: torch.device) -> Side:
        found.append(Side())
        return found[-1]

    monkeypatch.setattr("ideogram_q8.runtime.loading.model.side_of", made)
    return found


def measured(monkeypatch: pytest.MonkeyPatch, apart: float, overlapped: float) -> None:
    """As `bench tune` would have found."""
    monkeypatch.setattr(table, "find_overlap", lambda _, pair: table.Overlap(pair, apart, overlapped))


def test_both_branches_at_once_paint_the_same_on_one_side_for_all_pictures(model: Model, sides: list[Side]) -> None:
    apart = [step.latents for step in steps(model, request())]
    overlapped = load("pocket")
    overlapped.overlap = True
    for _ in range(2):
        assert all(torch.equal(a, step.latents) for a, step in zip(apart, steps(overlapped, request()), strict=True))
    assert len(sides) == 1 and sides[0].asked == ["start", "join"] * 2 * len(apart)


@pytest.mark.parametrize(("apart", "at_once"), [(2.0, 1.0), (1.0, 2.0)])
def test_what_was_measured_faster_decides(
    apart: float, at_once: float, sides: list[Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("pocket")
    assert not model.placement(128, 128).overlap  # not measured
    measured(monkeypatch, apart, at_once)
    assert model.placement(128, 128).overlap is (at_once < apart)
    for asked in (True, False):
        model.overlap = asked
        assert model.placement(128, 128).overlap is asked


def test_both_branches_at_once_take_nothing_elses_room(sides: list[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the picture, nor that of the text encoder; and never while a branch is streamed."""
    model = load("pocket")
    measured(monkeypatch, 2.0, 1.0)
    monkeypatch.setattr(usage, "available_bytes", lambda _: 10**12)
    monkeypatch.setattr(usage, "module_bytes", lambda *_, **__: 10**6)
    monkeypatch.setattr(budget, "decode_activation_bytes", lambda *_: 0)  # so that denoising takes most
    both = model.placement(512, 512)
    model.overlap = False
    apart = model.placement(512, 512)
    model.overlap = None
    assert both.overlap and both.denoise_bytes > apart.denoise_bytes
    assert (both.text_bytes, both.decode_bytes) == (apart.text_bytes, apart.decode_bytes)
    room = both.peak_bytes - 2 * 10**6
    for available, at_once, keeps in ((room, True, True), (room - 1, False, True)):
        monkeypatch.setattr(usage, "available_bytes", lambda _, available=available: available)
        placement = model.placement(512, 512)
        assert (placement.overlap, placement.keep_text_encoder) == (at_once, keeps)
    monkeypatch.undo()
    streamed = load("pocket")
    streamed.stream(("unconditional",), torch.device("cpu"))
    streamed.overlap = True
    assert not streamed.placement(128, 128).overlap


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_overlapped_branches_paint_the_same() -> None:
    model = load("pocket", device="cuda")
    apart = [step.latents for step in steps(model, request())]
    model.overlap = True
    assert all(torch.equal(a, step.latents) for a, step in zip(apart, steps(model, request()), strict=True))
