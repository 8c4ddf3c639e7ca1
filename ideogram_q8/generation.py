"""From a caption to a picture: the official sampler as an iterator over denoising steps.

Our own loop over diffusers' modules. It computes what diffusers' `Ideogram4Pipeline` computes (pipeline_ideogram4.py, 0.42.1,
the reference of the tests) without its waste: the caption is projected once and not at every step, no padding, hence no
attention mask, no text projection of zeros in the unconditional branch, rotary tables built once. Iterating gives progress,
previews and cancelling: close the iterator to stop.
"""

from __future__ import annotations

import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import Ideogram4Transformer2DModel
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8 import decoding, memory
from ideogram_q8.architecture import (
    IMAGE_POSITION_OFFSET,
    MAX_TEXT_TOKENS,
    SIDE_MULTIPLE,
    TEXT_TAPS,
    Preset,
    Traits,
    check_size,
    preset,
    schedule_mean,
)
from ideogram_q8.errors import ArtifactError, CaptionError, RequestError
from ideogram_q8.loading import Model
from ideogram_q8.manifest import TOOL_VERSION

MAX_SEED = 2**63 - 1
_LOG_SNR = (-15.0, 18.0)
_TRAIN_TIMESTEPS = 1000.0
_LIBRARIES = ("torch", "diffusers", "transformers")
_TEXT, _IMAGE = 0, 1
"""Rows of `embed_image_indicator`."""


@dataclass(frozen=True)
class Request:
    """One picture: caption as canonical text, seed 0..2**63-1, preset name, size in pixels."""

    caption: str
    seed: int
    preset: str
    width: int
    height: int

    def check(self, traits: Traits) -> None:
        """Raises RequestError for what a model with `traits` cannot honour."""
        if not self.caption.strip():
            raise RequestError("the caption is empty; describe the picture")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"seed is {self.seed}; expected an integer from 0 to {MAX_SEED}")
        preset(self.preset)
        check_size(self.width, self.height, traits)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.height // SIDE_MULTIPLE, self.width // SIDE_MULTIPLE


@dataclass(frozen=True)
class Step:
    """One finished step. `index` counts from 0, `sigma` is the noise level it started from, `seconds` its own time.

    `latents` float32 [1, tokens, channels] is where the next step starts; `clean` is the model's guess of the end.
    """

    model: Model
    request: Request
    index: int
    total: int
    sigma: float
    seconds: float
    latents: torch.Tensor
    clean: torch.Tensor

    @property
    def is_last(self) -> bool:
        return self.index == self.total - 1

    def preview(self) -> Image.Image:
        """What the picture will be like, at full size, for the price of one small matrix product."""
        if self.model.preview is None:
            self.model.preview = decoding.LinearDecoder.fit(self.model.vae)
        return self.model.preview(self.clean, self.request.grid)


@dataclass(frozen=True)
class Result:
    """A finished picture and what it took. `seconds_per_step` is the median, `peak_bytes` as in `memory.peak_bytes`."""

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


@torch.no_grad()
def encode_caption(model: Model, caption: str) -> torch.Tensor:
    """The caption's text features through `llm_cond_norm` and `llm_cond_proj`: [n_text, hidden_size] in the model's dtype.

    Raises:
        CaptionError: more than MAX_TEXT_TOKENS tokens.
    """
    features = text_features(model.text_encoder, model.tokenizer, caption)
    conditional = model.branches["conditional"]
    return conditional.llm_cond_proj(conditional.llm_cond_norm(features.to(model.dtype)))


@torch.no_grad()
def text_features(encoder: Qwen3VLTextModel, tokenizer: PreTrainedTokenizerBase, caption: str) -> torch.Tensor:
    """The raw outputs of the 13 tapped decoder layers, taps fastest: float32 [n_text, 13 * width of the encoder].

    Raises:
        CaptionError: more than MAX_TEXT_TOKENS tokens.
    """
    messages = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(encoder.device)
    if ids.shape[1] > MAX_TEXT_TOKENS:
        raise CaptionError(f"the caption has {ids.shape[1]} tokens; the model reads {MAX_TEXT_TOKENS}: shorten it")
    taps = _run_taps(encoder, ids)
    return torch.stack(taps, dim=-1)[0].flatten(1).to(torch.float32)


def _run_taps(encoder: Qwen3VLTextModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Raw outputs [1, n, hidden] of the tapped layers for token ids [1, n], by the encoder's own forward."""
    taps: dict[int, torch.Tensor] = {}

    def tap(index: int) -> RemovableHandle:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            taps[index] = output

        return encoder.layers[index].register_forward_hook(keep)

    hooks = [tap(index) for index in TEXT_TAPS]
    try:
        encoder(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [taps[index] for index in TEXT_TAPS]


# ---- one branch ----


@dataclass(frozen=True)
class _Sequence:
    """What stays the same over the steps of one branch: the text part [1, n, hidden] with its indicator, and rotary tables."""

    transformer: Ideogram4Transformer2DModel
    text: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]

    def velocity(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """float32 [1, tokens, channels], from noise to picture. `latents` float32 [1, tokens, channels], `t` [1] of 0..1."""
        transformer, dtype = self.transformer, self.text.dtype
        image = transformer.input_proj(latents.to(dtype)) + transformer.embed_image_indicator.weight[_IMAGE]
        hidden = torch.cat([self.text, image], dim=1)
        conditioning = functional.silu(transformer.adaln_proj(transformer.t_embedding(t.to(dtype)).unsqueeze(1)))
        for block in transformer.layers:
            hidden = block(hidden, None, self.rotary, conditioning)
        return transformer.final_layer(hidden[:, self.text.shape[1] :], conditioning=conditioning).to(torch.float32)


def _sequence(transformer: Ideogram4Transformer2DModel, projected: torch.Tensor, grid: tuple[int, int]) -> _Sequence:
    """`projected` [n, hidden] is empty in the unconditional branch."""
    positions = position_ids(projected.shape[0], grid).to(projected.device)
    cos, sin = transformer.rotary_emb(positions)
    text = (projected + transformer.embed_image_indicator.weight[_TEXT]).unsqueeze(0)
    return _Sequence(transformer, text, (cos.to(projected.dtype), sin.to(projected.dtype)))


def position_ids(text_tokens: int, grid: tuple[int, int]) -> torch.Tensor:
    """int64 [1, text + image tokens, 3]: text (i, i, i), then image (0, row, column) + IMAGE_POSITION_OFFSET, row by row."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3) + IMAGE_POSITION_OFFSET
    return torch.cat([torch.arange(text_tokens).unsqueeze(1).expand(-1, 3), image]).unsqueeze(0)


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
    request.check(model.traits)
    keep_text_encoder = model.placement(request.width, request.height).keep_text_encoder
    start = initial_noise(request, model.config.in_channels) if noise is None else noise
    return _iterate(model, request, start.to(model.device), keep_text_encoder)


@torch.no_grad()
def _iterate(model: Model, request: Request, latents: torch.Tensor, keep_text_encoder: bool) -> Iterator[Step]:
    projected = encode_caption(model, request.caption)
    if not keep_text_encoder:
        model.free_text_encoder()
    conditional = _sequence(model.branches["conditional"], projected, request.grid)
    unconditional = _sequence(model.branches["unconditional"], projected[:0], request.grid)
    setting = preset(request.preset)
    levels = torch.tensor(sigmas(setting, request.width, request.height), device=model.device)
    for i, guidance in enumerate(setting.guidance(model.traits)):
        started = time.perf_counter()
        sigma = levels[i]
        # Through diffusers' timesteps and back: its float32 rounding counts, for the embedding multiplies t by 10,000.
        t = (1.0 - sigma * _TRAIN_TIMESTEPS / _TRAIN_TIMESTEPS).reshape(1)
        velocity = guidance * conditional.velocity(latents, t) + (1.0 - guidance) * unconditional.velocity(latents, t)
        clean = latents + sigma * velocity
        latents = latents + (levels[i + 1] - sigma) * -velocity
        if not torch.isfinite(latents).all():  # asking waits for the device, so `seconds` below is the step's own time
            raise ArtifactError(
                f"step {i + 1} of {setting.steps} gave values that are not finite (variant {model.variant} in {model.dtype}): "
                "use float32 or bfloat16, or build the artifact again"
            )
        seconds = time.perf_counter() - started
        yield Step(model, request, i, setting.steps, sigma.item(), seconds, latents, clean)


def generate(model: Model, request: Request, on_step: Callable[[Step], None] | None = None) -> Result:
    """The whole way; `on_step` sees every step, and cancels by raising."""
    memory.reset_peak(model.device)
    started = time.perf_counter()
    seconds: list[float] = []
    for step in steps(model, request):
        seconds.append(step.seconds)
        if on_step is not None:
            on_step(step)
    image = picture(model, step.latents, request.grid)
    total = time.perf_counter() - started
    peak = memory.peak_bytes(model.device)
    return Result(image, request, statistics.median(seconds), total, peak, model.variant, model.artifact_sha256)


def picture(model: Model, latents: torch.Tensor, grid: tuple[int, int]) -> Image.Image:
    """The RGB picture of final latents float32 [1, tokens, channels]; `grid` as in `Request.grid`."""
    return decoding.decode(model.vae, latents, grid)
