"""The three stages of a picture with all that is loaded meanwhile, on random weights, within what a 24 GB card has: peak memory of each.

As a plan for such a card has it: both transformers and the VAE resident, the text encoder streamed from host memory.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from diffusers import AutoencoderKLFlux2
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8.bench import timing
from ideogram_q8.bench.card.report import PhaseReport, release
from ideogram_q8.bench.card.setting import CardSetting, Size
from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.picture import denoise, meter, own
from ideogram_q8.bench.picture.scene import StepScene
from ideogram_q8.bench.random_encoder import QWEN3_VL_8B, RandomEncoder
from ideogram_q8.errors import ResourceError
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.runtime.generation import decoding
from ideogram_q8.runtime.generation.denoising import Denoiser, velocities
from ideogram_q8.runtime.loading.networks import build_text_encoder
from ideogram_q8.runtime.loading.streaming import stream_encoder
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.runtime.text import encoding

Found = Mapping[str, object]
_SCALE = 8
"""Pixels of a side that one of the VAE's latents becomes."""
_CAP = 25_000_000_000
"""Bytes of tensors that a 24 GB card has room for without a desktop: RTX 3090s report 23.5 to 23.7 GiB, of which CUDA takes 0.3 GB."""


@torch.no_grad()
def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    small, large = setting.sizes.size, setting.sizes.large
    sizes = {"int8": (small, large), "q4_k_s": (small,)}
    named = {scheme: list(_stages(scheme, each)) for scheme, each in sizes.items()}
    left = report.plan(name for stages in named.values() for name, _ in stages)
    with denoise.capped(setting.device, _cap(setting.device)):
        for scheme, stages in named.items():
            loaded = _Loaded(setting, scheme, sizes[scheme])
            for name, stage in stages:
                if name in left:
                    report.attempt(name, functools.partial(stage, loaded))
            del loaded
            release()


def _cap(device: torch.device) -> int | None:
    """_CAP on a card that has more."""
    if device.type != "cuda" or torch.cuda.get_device_properties(device).total_memory <= _CAP:
        return None
    return _CAP


def _stages(scheme: str, sizes: tuple[Size, ...]) -> list[tuple[str, Callable[[_Loaded], Found]]]:
    found: list[tuple[str, Callable[[_Loaded], Found]]] = [(f"{scheme}, encoding", _Loaded.encode)]
    for width, height in sizes:
        for name, stage in (("a step", _Loaded.step), ("decoding", _Loaded.decode)):
            found.append((f"{scheme}, {name} at {width}x{height}", functools.partial(stage, size=(width, height))))
    return found


class _Loaded:
    """Everything that a picture in a format needs, in memory from the first stage on."""

    def __init__(self, setting: CardSetting, scheme: str, sizes: tuple[Size, ...]) -> None:
        self.setting, self.scheme, self.sizes = setting, scheme, sizes

    @functools.cached_property
    def scenes(self) -> dict[Size, StepScene]:
        setting, pool = self.setting, Pool(0, self.setting.device, self.setting.dtype)
        scenes = {
            size: StepScene(
                setting.denoising((self.scheme,), size), setting.config, pool, usage.available_bytes(setting.device)
            )
            for size in self.sizes
        }
        for scene in scenes.values():
            scene.draw()
        return scenes

    @property
    def scene(self) -> StepScene:
        """The scene of the first size."""
        return self.scenes[self.sizes[0]]

    @functools.cached_property
    def meter(self) -> meter.Meter:
        """What is built after this counts."""
        return meter.Meter(self.scene.pool)

    @functools.cached_property
    def networks(self) -> _Networks:
        return self.meter.build(lambda: _Networks(self.setting, self.scene, self.scheme))

    def encode(self) -> Found:
        """The caption's features from the streamed encoder, projected. Raises ResourceError: the host has no room for the encoder."""
        networks, scene = self.networks, self.scene
        encoder = networks.encoder
        if encoder is None:
            raise ResourceError(networks.problem)
        ids = torch.arange(scene.settings.text_tokens).unsqueeze(0) % networks.encoder_config.vocab_size

        def work() -> object:
            features = encoding.text_features(encoder, cast("PreTrainedTokenizerBase", _Ids(ids)), "")
            return encoding.project(networks.transformers["conditional"], features.to(scene.device, scene.dtype))

        return self._measured(work, "text", self.sizes[0])

    def step(self, size: Size) -> Found:
        """Both branches, one after the other."""
        scene, built = self.scenes[size], self.networks.transformers
        projected = encoding.project(built["conditional"], scene.features)

        def work() -> object:
            conditional = Denoiser(built["conditional"], projected, scene.grid, scene.t)
            unconditional = Denoiser(built["unconditional"], projected[:0], scene.grid, scene.t)
            return velocities(unconditional, conditional, scene.latents, 0)

        return self._measured(work, "denoise", size)

    def decode(self, size: Size) -> Found:
        """The VAE's decoder, a strip at a time."""
        vae, (width, height) = self.networks.vae, size
        shape = 1, vae.config.latent_channels, height // _SCALE, width // _SCALE
        latents = torch.randn(shape, device=self.scene.device).to(self.scene.dtype)
        return self._measured(lambda: decoding.run_decoder(vae, latents), "decode", size)

    def _measured(self, work: Callable[[], object], stage: str, size: Size) -> Found:
        networks, taken = self.networks, self.meter
        seconds: list[float] = []

        def timed() -> None:
            seconds.append(timing.seconds(work, self.scene.device))

        taken.peak = 0
        try:
            taken.steps(timed)
        finally:
            release()
        footprint = networks.footprint(size)
        found = {"seconds": seconds[0], "peak_bytes": taken.peak, "predicted_bytes": getattr(footprint, stage)}
        return found | {"plan": footprint.plan.key, "in_use_bytes": _in_use(self.scene.device)}


class _Networks:
    """Both transformers, the VAE and the text encoder; `problem` says why there is no encoder."""

    def __init__(self, setting: CardSetting, scene: StepScene, scheme: str) -> None:
        self._scene, forms = scene, own.forms(scene, scheme)
        self.transformers = own.transformers(scene, forms)
        self.vae = _vae(setting).to(scene.device, scene.dtype).eval().requires_grad_(False)
        self.encoder_config = _encoder_config(setting)
        self.encoder: Qwen3VLTextModel | None = None
        self.problem = ""
        self._described = self._describe(scheme)
        with contextlib.suppress(ResourceError):
            self.encoder = self._load_encoder()

    def _load_encoder(self) -> Qwen3VLTextModel:
        scene, host = self._scene, torch.device("cpu")
        try:
            own.check_host(self._described.encoder.total + 2 * self._described.encoder.layer)  # one layer is there twice
        except ResourceError as error:
            self.problem = str(error)
            raise
        pool = scene.pool if scene.device == host else Pool(0, host, scene.dtype)
        encoder = build_text_encoder(RandomEncoder(pool, self.encoder_config), self.encoder_config, host, scene.dtype)
        stream_encoder(encoder, scene.device)
        return encoder

    def _describe(self, scheme: str) -> budget.Networks:
        scene, config = self._scene, self.encoder_config
        described = own.networks(scene, own.forms(scene, scheme))
        total = _encoder_bytes(config, scene.dtype)
        return replace(
            described,
            schemes={branch: described.schemes[branch] for branch in BRANCHES},
            encoder=inventory.encoder(config, total, scene.dtype),
            vae_bytes=usage.module_bytes(self.vae),
            vae_channels=inventory.vae_channels(self.vae.config),
        )

    def footprint(self, size: Size) -> budget.Footprint:
        """What was predicted: with the encoder streamed, or freed where it is not there."""
        key = "freed" if self.encoder is None else "encoder"
        plan = next(plan for plan in budget.PLANS if plan.key == key)
        return budget.footprint(self._described, plan, size, self._scene.settings.text_tokens, self._scene.device.type)


def _encoder_bytes(config: TextEncoderConfig, dtype: torch.dtype) -> int:
    """Bytes of the language model: FP8 Linears with a scale for each row, the rest in the activations' dtype."""
    reader = RandomEncoder(Pool(0, torch.device("meta"), dtype), config)
    return sum(reader.bytes_of(name) for name in reader.names)


def _encoder_config(setting: CardSetting) -> TextEncoderConfig:
    if not setting.rehearse:
        return QWEN3_VL_8B
    return TextEncoderConfig.from_json(json.loads((WEIGHTS / "text_encoder" / "config.json").read_text(encoding="utf-8")))


def _vae(setting: CardSetting) -> AutoencoderKLFlux2:
    """With random weights: FLUX.2's, whose dimensions are diffusers' defaults, or the embedded model's."""
    if not setting.rehearse:
        return AutoencoderKLFlux2()
    return AutoencoderKLFlux2.from_config(json.loads((WEIGHTS / "vae" / "config.json").read_text(encoding="utf-8")))


def _in_use(device: torch.device) -> int | None:
    """Bytes of the card that this process and others take, what the allocator keeps included."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return total - free


class _Ids:
    """Stands for a tokenizer: every caption has the same tokens."""

    def __init__(self, ids: torch.Tensor) -> None:
        self._ids = ids

    def apply_chat_template(self, *_: object, **__: object) -> str:
        """No text."""
        return ""

    def __call__(self, *_: object, **__: object) -> dict[str, torch.Tensor]:
        return {"input_ids": self._ids}
