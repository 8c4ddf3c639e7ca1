"""Other people's ways to run the same model, on the same random weights: diffusers', torchao's, SDNQ's and ComfyUI's.

diffusers, torchao and SDNQ run diffusers' own forward, as `Ideogram4Pipeline` calls it (pipeline_ideogram4.py, 0.42.1): features of the
caption beside those of the picture, projected at every step. The pipeline pads captions to 2048 tokens by default; `diffusers` does so too
where the settings say it, the others do not pad.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from diffusers import Ideogram4Transformer2DModel

from ideogram_q8.bench.linear.peer_linears import Convert, compiling, mode, refuses_to_compile, to_sdnq, to_torchao
from ideogram_q8.bench.linear.random_weights import RandomBranch
from ideogram_q8.bench.picture import comfy
from ideogram_q8.bench.picture.scene import BenchVariant, Built, StepScene, guided
from ideogram_q8.errors import ResourceError
from ideogram_q8.model.architecture import BRANCHES, Branch
from ideogram_q8.runtime.generation.denoising import position_ids
from ideogram_q8.runtime.loading.networks import build_transformer

_BLOCK_LINEARS = (
    *(f"attention.to_{name}" for name in ("q", "k", "v", "out.0")),
    *(f"feed_forward.w{number}" for number in (1, 2, 3)),
)
_TEXT, _IMAGE, _PADDING = 3, 2, -1
"""diffusers' indicators of tokens."""


def _build(scene: StepScene, padded: bool, convert: Convert | None = None, compiled: bool = False) -> Built:
    """diffusers' transformers with the Linears of their blocks converted, one block at a time; compiled where that is possible.

    Raises:
        ResourceError: it is not, and nothing else is asked for.
    """
    reason = refuses_to_compile(scene.device) if compiled else None
    if reason is not None and convert is None:
        raise ResourceError(f"not compiled: {reason}; the row above is the same")
    transformers = {branch: _transformer(scene, branch, convert) for branch in BRANCHES}
    compiles = compiled and reason is None
    if compiles:
        for transformer in transformers.values():
            transformer.compile_repeated_blocks(**compiling(convert))
    width = max(scene.settings.padded_tokens, scene.settings.text_tokens) if padded else scene.settings.text_tokens
    conditional = _call(scene, transformers["conditional"], width)
    unconditional = _call(scene, transformers["unconditional"], 0)

    def step(index: int) -> torch.Tensor:
        return guided(unconditional(index), conditional(index))

    note = f"compiled ({mode(convert)})" if compiles else "not compiled" if reason is None else f"not compiled: {reason}"
    return Built(step, note=f"{note}, {width} text tokens" if padded else note, compiles=compiles)


def _transformer(scene: StepScene, branch: Branch, convert: Convert | None) -> Ideogram4Transformer2DModel:
    """Unquantized in host memory first, where it is to be converted: two of them would not fit a card of 24 GB."""
    home = scene.device if convert is None else torch.device("cpu")
    transformer = build_transformer(RandomBranch(scene.pool, scene.config, branch, {}), scene.config, home, scene.dtype)
    if convert is not None:
        for block in transformer.layers:
            block.to(scene.device)
            convert(block, _BLOCK_LINEARS)
    return transformer.to(scene.device)


def _call(scene: StepScene, transformer: Ideogram4Transformer2DModel, text_tokens: int) -> Callable[[int], torch.Tensor]:
    """diffusers' forward on padding, caption and picture -> float32 [1, image tokens, channels]."""
    config, device, image = scene.config, scene.device, scene.image_tokens
    caption = min(text_tokens, scene.settings.text_tokens)
    states = torch.zeros(1, text_tokens + image, config.llm_features_dim, dtype=scene.dtype, device=device)
    states[0, text_tokens - caption : text_tokens] = scene.features[:caption]
    latents = torch.zeros(1, text_tokens + image, config.in_channels, dtype=scene.dtype, device=device)
    latents[:, text_tokens:] = scene.latents
    positions = torch.zeros(1, text_tokens + image, 3, dtype=torch.int64, device=device)
    positions[:, text_tokens - caption :] = position_ids(caption, scene.grid).to(device)
    indicator = torch.zeros(1, text_tokens + image, dtype=torch.int64, device=device)
    indicator[:, text_tokens - caption : text_tokens], indicator[:, text_tokens:] = _TEXT, _IMAGE
    segments = torch.where(indicator == 0, _PADDING, 1)
    t = scene.t.to(scene.dtype)

    def call(index: int) -> torch.Tensor:
        found = transformer(latents, t[index : index + 1], states, positions, segments, indicator, return_dict=False)[0]
        return found[:, text_tokens:].float()

    return call


def _peer(name: str, label: str, build: Callable[[StepScene], Built], *, int8: bool = False) -> BenchVariant:
    return BenchVariant(name, label, "int8" if int8 else "float", build, peer=True)


PEERS: tuple[BenchVariant, ...] = (
    _peer("diffusers", "diffusers, as its pipeline runs", functools.partial(_build, padded=True)),
    _peer("diffusers-compiled", "diffusers, compiled", functools.partial(_build, padded=False, compiled=True)),
    _peer(
        "torchao", "torchao int8 dynamic", functools.partial(_build, padded=False, convert=to_torchao, compiled=True), int8=True
    ),
    _peer("sdnq", "SDNQ int8", functools.partial(_build, padded=False, convert=to_sdnq), int8=True),
    _peer("comfy", "ComfyUI's way with comfy-kitchen", comfy.build, int8=True),
)
