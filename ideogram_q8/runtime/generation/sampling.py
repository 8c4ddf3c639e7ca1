"""From a caption to a picture: the official sampler as an iterator over denoising steps.

Our own loop over diffusers' modules. It computes what diffusers' `Ideogram4Pipeline` computes (pipeline_ideogram4.py, 0.42.1,
the reference of the tests) without its waste: the caption is projected once and not at every step, or known from the cache, and the
unconditional branch projects none (`text`); what depends on the step alone is computed ahead (`denoising`). Iterating gives progress,
previews and cancelling: close the iterator to stop.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from PIL import Image

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.model.architecture import (
    BRANCHES,
    MAX_SEED,
    PRESETS,
    SIDE_MULTIPLE,
    Branch,
    Preset,
    Traits,
    check_size,
    preset,
    schedule_mean,
)
from ideogram_q8.runtime.generation import decoding
from ideogram_q8.runtime.generation.denoising import Denoiser, Side, velocities
from ideogram_q8.runtime.kernels import guided_step
from ideogram_q8.runtime.layers.packed import watched
from ideogram_q8.runtime.loading.model import Model
from ideogram_q8.runtime.memory import usage
from ideogram_q8.runtime.text import encoding
from ideogram_q8.runtime.text.caption_cache import Key, files_digest

_LOG_SNR = (-15.0, 18.0)
_TRAIN_TIMESTEPS = 1000.0
_LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Request:
    """One picture: caption as canonical text, seed 0..2**63-1, preset name, size in pixels."""

    caption: str
    seed: int
    preset: str
    width: int
    height: int

    def check(self, traits: Traits, branches: Collection[Branch] = BRANCHES) -> None:
        """Raises RequestError for what a model with `traits` and the transformers `branches` cannot honour."""
        if not self.caption.strip():
            raise RequestError("the caption is empty; describe the picture")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"seed is {self.seed}; expected an integer from 0 to {MAX_SEED}")
        if not set(self.branches(traits)) <= set(branches):
            raise RequestError(
                f"preset {self.preset} has guidance {max(preset(self.preset).guidance(traits)):g}, which two transformers make, and "
                f"here is one, the conditional; use guidance 1: {', '.join(_unguided(traits))} or custom-STEPS-g1"
            )
        check_size(self.width, self.height, traits)

    def branches(self, traits: Traits) -> tuple[Branch, ...]:
        """The transformers that the picture needs. Raises RequestError: an unknown preset."""
        return preset(self.preset).branches(traits)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.height // SIDE_MULTIPLE, self.width // SIDE_MULTIPLE


def _unguided(traits: Traits) -> list[str]:
    return [name for name, setting in PRESETS.items() if len(setting.branches(traits)) == 1]


@dataclass(frozen=True)
class Step:
    """One finished step. `index` counts from 0, `sigma` is the noise level it started from, `seconds` its own time.

    `latents` float32 [1, tokens, channels] is where the next step starts, `velocity` of the same kind how it came there, and
    `next_sigma` the noise that is left in it.
    """

    model: Model
    request: Request
    index: int
    total: int
    sigma: float
    next_sigma: float
    seconds: float
    latents: torch.Tensor
    velocity: torch.Tensor

    @property
    def is_last(self) -> bool:
        return self.index == self.total - 1

    @property
    def clean(self) -> torch.Tensor:
        """The model's guess of the end, float32 [1, tokens, channels]: all of what is left of the way at this velocity."""
        return torch.add(self.latents, self.velocity, alpha=self.next_sigma)

    def preview(self) -> Image.Image | None:
        """What the picture will be like, at full size, for a small part of a step's price; None where nothing can show it."""
        return self.model.preview(self.clean, self.request.grid)


@dataclass(frozen=True)
class Result:
    """A finished picture and what it took. `seconds_per_step` is the median, `peak_bytes` as in `usage.peak_bytes`."""

    image: Image.Image
    request: Request
    seconds_per_step: float
    total_seconds: float
    peak_bytes: int
    variant: str
    artifact_sha256: str


def metadata(result: Result) -> dict[str, object]:
    """What `png.write_png` stores: enough to make the same picture again."""
    request = result.request
    return {
        "caption": request.caption,
        "variant": result.variant,
        "artifact_sha256": result.artifact_sha256,
        "seed": request.seed,
        "preset": request.preset,
        "width": request.width,
        "height": request.height,
        "versions": {"ideogram_q8": TOOL_VERSION} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


# ---- inputs ----


def sigmas(preset: Preset, width: int, height: int) -> list[float]:
    """Noise levels at the start of each step and a final 0, decreasing; float32 values.

    Logit-normal schedule of ideogram4/sampler_configs.py: t = 1 - sigmoid(mean + std * ndtri(u)), t clamped to a log SNR
    of -15..18, sigma = 1 - t.
    """
    steps = torch.linspace(0.0, 1.0, preset.steps + 1, dtype=torch.float64)
    t = 1.0 - torch.special.expit(schedule_mean(preset, width, height) + preset.std * torch.special.ndtri(steps))
    low, high = (1.0 / (1.0 + math.exp(0.5 * snr)) for snr in reversed(_LOG_SNR))
    noise = (1.0 - t.clamp(low, high)).flip(0)[:-1].to(torch.float32)
    return [*noise.tolist(), 0.0]


def initial_noise(request: Request, channels: int) -> torch.Tensor:
    """float32 [1, tokens, channels] from a CPU generator, so that a seed gives the same picture on every device."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    rows, columns = request.grid
    return torch.randn((1, rows * columns, channels), generator=generator, dtype=torch.float32)


def encode_caption(model: Model, caption: str) -> torch.Tensor:
    """The caption's text features, projected: [n_text, hidden_size] in the model's dtype. Known ones come from `model.captions`.

    Raises:
        CaptionError: more than MAX_TEXT_TOKENS tokens.
    """
    conditional, cache = model.branches["conditional"], model.captions
    if cache is None or watched(conditional.llm_cond_norm) or watched(conditional.llm_cond_proj):
        return _encode(model, caption)
    key = _caption_key(model, caption)
    known = cache.read(key, model.config.hidden_size, model.dtype)
    if known is not None:
        return known.to(model.device)
    projected = _encode(model, caption)
    cache.write(key, projected)
    return projected


def _encode(model: Model, caption: str) -> torch.Tensor:
    features = encoding.text_features(model.text_encoder, model.tokenizer, caption)
    return encoding.project(model.branches["conditional"], features.to(model.device, model.dtype))


def _caption_key(model: Model, caption: str) -> Key:
    if model.projection_digest is None:
        model.projection_digest = encoding.projection_digest(model.branches["conditional"], model.dtype)
    build = model.text_encoder_build
    return Key(
        caption=hashlib.sha256(caption.encode()).hexdigest(),
        encoder=files_digest(model.text_files()),
        projection=model.projection_digest,
        device=model.device.type,
        dtype=str(model.dtype),
        compute=model.compute if build is not None and build.has_blocks else COMPUTES[0],
    )


# ---- the loop ----


def steps(model: Model, request: Request, noise: torch.Tensor | None = None) -> Iterator[Step]:
    """The denoising steps, each computed when asked for; the caption is encoded before the first.

    Args:
        noise: where to start, float32 [1, tokens, channels]; None draws it from the seed.

    Raises:
        RequestError: at once, for a request that the model cannot honour.
        ResourceError: at once, if the picture cannot fit the device.
        ArtifactError: at a step whose latents are not finite.
    """
    request.check(model.traits, model.branches)
    placement = model.placement(request.width, request.height)
    keep_text_encoder = placement.keep_text_encoder
    if model.plan is not None and model.plan.encoder == "freed":
        keep_text_encoder = False
    start = initial_noise(request, model.config.in_channels) if noise is None else noise
    side = model.side if placement.overlap else None
    return _iterate(model, request, start.to(model.device), keep_text_encoder, side)


@torch.no_grad()
def _iterate(
    model: Model, request: Request, latents: torch.Tensor, keep_text_encoder: bool, side: Side | None
) -> Iterator[Step]:
    projected = encode_caption(model, request.caption)
    if not keep_text_encoder:
        model.free_text_encoder()
    setting = preset(request.preset)
    levels = sigmas(setting, request.width, request.height)
    t = timesteps(levels[:-1]).to(model.device)
    texts: dict[Branch, torch.Tensor] = {"conditional": projected, "unconditional": projected[:0]}
    denoisers = {branch: _denoiser(model, branch, texts[branch], request.grid, t) for branch in request.branches(model.traits)}
    for i, guidance in enumerate(setting.guidance(model.traits)):
        started = time.perf_counter()
        both = velocities(denoisers.get("unconditional"), denoisers["conditional"], latents, i, side)
        velocity, latents = guided_step(latents, *both, guidance, levels[i] - levels[i + 1])
        if not torch.isfinite(latents).all():  # asking waits for the device, so `seconds` below is the step's own time
            raise ArtifactError(
                f"step {i + 1} of {setting.steps} gave values that are not finite (variant {model.variant} in {model.dtype}): "
                "use float32 or bfloat16, or build the artifact again"
            )
        seconds = time.perf_counter() - started
        yield Step(model, request, i, setting.steps, levels[i], levels[i + 1], seconds, latents, velocity)


def _denoiser(model: Model, branch: Branch, projected: torch.Tensor, grid: tuple[int, int], t: torch.Tensor) -> Denoiser:
    return Denoiser(model.branches[branch], projected, grid, t, model.enter.get(branch), model.attention)


def timesteps(levels: list[float]) -> torch.Tensor:
    """The transformers' timesteps of noise levels: float32 [steps], 0 = noise, 1 = clean.

    Through diffusers' timesteps and back: its float32 rounding counts, for the embedding multiplies t by 10,000.
    """
    return 1.0 - torch.tensor(levels, dtype=torch.float32) * _TRAIN_TIMESTEPS / _TRAIN_TIMESTEPS


def generate(model: Model, request: Request, on_step: Callable[[Step], None] | None = None) -> Result:
    """The whole way; `on_step` sees every step, and cancels by raising."""
    usage.reset_peak(model.device)
    started = time.perf_counter()
    seconds: list[float] = []
    for step in steps(model, request):
        seconds.append(step.seconds)
        if on_step is not None:
            on_step(step)
    image = picture(model, step.latents, request.grid)
    total = time.perf_counter() - started
    peak = usage.peak_bytes(model.device)
    return Result(image, request, statistics.median(seconds), total, peak, model.variant, model.artifact_sha256)


def picture(model: Model, latents: torch.Tensor, grid: tuple[int, int]) -> Image.Image:
    """The RGB picture of final latents float32 [1, tokens, channels]; `grid` as in `Request.grid`."""
    return decoding.decode(model.vae, model.denormalization, latents, grid)
