"""The variants of this package, built from random weights and driven by its own loop."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping

import torch
from diffusers import Ideogram4Transformer2DModel
from torch import nn

from ideogram_q8.bench import timing
from ideogram_q8.bench.linear import operations
from ideogram_q8.bench.linear.random_weights import FP8, NF4, RandomBranch, WeightForm
from ideogram_q8.bench.picture.scene import BenchVariant, Built, StepScene, guided
from ideogram_q8.bench.results import UNQUANTIZED, Arithmetic, StepPart
from ideogram_q8.errors import ResourceError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine.devices import ATTENTIONS, COMPUTES
from ideogram_q8.model.architecture import BRANCHES, Branch, linears
from ideogram_q8.numerics import nf4
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.denoising import Denoiser, Side, attention_named, side_of, velocities
from ideogram_q8.runtime.kernels.attention import paths as int8_attention
from ideogram_q8.runtime.kernels.linear.int8 import FEWEST_ROWS
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.runtime.loading.streaming import stream_blocks
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.runtime.memory.budget import Encoder, Footprint, Networks, Plan
from ideogram_q8.runtime.text import encoding

Forms = Mapping[str, WeightForm]
"""By a Linear's official name."""
_NAMES = ("attention.qkv", "attention.o", "feed_forward.w1", "feed_forward.w2")
"""Linears of a block, one of each of BLOCK_PRODUCTS."""
_PASSES = 3
ORIGINALS = (FP8, NF4, "bf16")
"""Schemes of a whole checkpoint, for which there is no recipe; their products are not quantized."""


def forms(scene: StepScene, scheme: str, rotated: bool = False) -> Forms:
    """Schemes of every Linear: one throughout (`fp8`, `nf4`, `bf16`), or what the recipe of that name has."""
    every = linears(scene.config)
    if scheme in ORIGINALS:
        whole = {linear.name: scheme != NF4 or linear.in_features % nf4.BLOCK == 0 for linear in every}
        return {name: WeightForm(scheme if fits else "bf16") for name, fits in whole.items()}
    schemes = {plan.linear: plan.scheme for plan in choose(scheme, scene.config).parts["conditional"].layers}
    turns = {linear.name: rotated and schemes[linear.name] == "w8a8" and linear.in_features % GROUP == 0 for linear in every}
    return {name: WeightForm(found, GROUP if turns[name] else 0) for name, found in schemes.items()}


def networks(scene: StepScene, chosen: Forms, compute: str = COMPUTES[0], attention: str = ATTENTIONS[0]) -> Networks:
    """Both transformers as numbers for `budget`, and nothing else."""
    schemes = {name: form.scheme for name, form in chosen.items()}
    both = dict.fromkeys(BRANCHES, schemes)
    return Networks(scene.config, both, Encoder(0, 0, 0), 0, (1, 1), scene.dtype, compute, attention)


def placement(scene: StepScene, described: Networks) -> Footprint:
    """The fastest plan that fits; its `denoise` is the peak that is predicted.

    Raises:
        ResourceError: none fits.
    """
    settings, kind = scene.settings, scene.device.type
    size = settings.width, settings.height
    host = usage.pinnable_bytes() if kind == "cuda" else sys.maxsize
    choice = budget.choose_plan(described, size, scene.available, settings.text_tokens, kind, host)
    if choice.fits is None:
        needed = budget.least(described, size, settings.text_tokens, kind).peak
        lacks = "".join(f"; plan {each.plan.key} {budget.pins(each, host)}" for each in choice.short_of_host)
        raise ResourceError(f"needs {gigabytes(needed)}, {gigabytes(scene.available)} are free{lacks}")
    return choice.fits


def transformers(
    scene: StepScene, chosen: Forms, compute: str = COMPUTES[0], streamed: tuple[Branch, ...] = ()
) -> dict[Branch, Ideogram4Transformer2DModel]:
    """Both branches with random weights: those that are to be `streamed` in host memory, the others on the scene's device."""
    return {
        branch: build_transformer(
            RandomBranch(scene.pool, scene.config, branch, chosen),
            scene.config,
            torch.device("cpu") if branch in streamed else scene.device,
            scene.dtype,
            compute,
            text_projection=branch == "conditional",
        )
        for branch in BRANCHES
    }


def build(
    scene: StepScene,
    scheme: str,
    rotated: bool = False,
    compute: str = COMPUTES[0],
    attention: str = ATTENTIONS[0],
    overlap: bool = False,
    plan: Plan | None = None,
) -> Built:
    """A variant in memory.

    Args:
        overlap: both branches at once, as `Model.overlap`.
        plan: what is streamed; None is the fastest plan that fits the scene's memory.

    Raises:
        ResourceError: it does not fit the device or, streamed, the computer, or there are no two streams for it.
    """
    side = _side(scene.device) if overlap else None
    chosen = forms(scene, scheme, rotated)
    described = networks(scene, chosen, compute, attention)
    footprint = placement(scene, described) if plan is None else _footprint(scene, described, plan)
    streamed = footprint.plan.streamed
    _check_streaming(footprint, overlap)
    built = transformers(scene, chosen, compute, streamed)
    enter: dict[Branch, Callable[[int], None]] = {}
    if streamed:
        enter = dict(zip(streamed, stream_blocks([built[branch] for branch in streamed], scene.device), strict=True))
    projected = encoding.project(built["conditional"], scene.features)

    def denoiser(branch: Branch, text: torch.Tensor) -> Denoiser:
        return Denoiser(built[branch], text, scene.grid, scene.t, enter.get(branch), attention)

    conditional, unconditional = denoiser("conditional", projected), denoiser("unconditional", projected[:0])

    def step(index: int) -> torch.Tensor:
        return guided(*velocities(unconditional, conditional, scene.latents, index, side))

    def parts() -> tuple[StepPart, ...]:
        if "conditional" in enter:
            enter["conditional"](0)
        return measure_parts(scene, built["conditional"], chosen, compute, attention)

    note = f"{' and '.join(streamed)} streamed" if streamed else ""
    predicted = footprint.denoise + (_beside(scene, described) if overlap else 0)
    return Built(step, parts, predicted, streamed, note, _arithmetic_of_all(scene, chosen, compute))


def _check_streaming(footprint: Footprint, overlap: bool) -> None:
    """Raises ResourceError: the computer has no room for what is streamed, or two streams have nothing to run at once."""
    streamed = footprint.plan.streamed
    if streamed:
        check_host(footprint.host)
    if overlap and streamed:
        raise ResourceError(
            f"two streams need both branches on the device; it has room for them only with {streamed[0]} streamed"
        )


def check_host(needed: int) -> None:
    """Raises ResourceError where pinning so many bytes would leave the computer less than a tenth of what it has free."""
    available = usage.host_bytes()[1]
    if available and needed > 0.9 * available:
        raise ResourceError(f"needs {gigabytes(needed)} of host memory, {gigabytes(available)} are free")


def _footprint(scene: StepScene, described: Networks, plan: Plan) -> Footprint:
    settings = scene.settings
    return budget.footprint(described, plan, (settings.width, settings.height), settings.text_tokens, scene.device.type)


def _beside(scene: StepScene, described: Networks) -> int:
    """Bytes that both branches at once take more than one after the other."""
    settings = scene.settings
    asked = described, (settings.width, settings.height), settings.text_tokens, scene.device.type
    return budget.denoise_activation_bytes(*asked, overlap=True) - budget.denoise_activation_bytes(*asked)


def _side(device: torch.device) -> Side:
    """For the unconditional branch. Raises ResourceError where there are no streams."""
    found = side_of(device)
    if found is None:
        raise ResourceError("two streams need CUDA")
    return found


# ---- what a step is made of ----


def measure_parts(
    scene: StepScene, transformer: Ideogram4Transformer2DModel, chosen: Forms, compute: str, attention: str
) -> tuple[StepPart, ...]:
    """The products and the attention of the first block, each alone, times the blocks of both branches."""
    block, counts = transformer.layers[0], (scene.settings.text_tokens + scene.image_tokens, scene.image_tokens)
    found = []
    for shape, layers, name in zip(operations.block_shapes(scene.config), _products(block), _NAMES, strict=True):
        seconds = sum(_time(layers, scene, tokens, shape.inputs) for tokens in counts)
        arithmetic = _arithmetic(scene, chosen[f"layers.0.{name}"].scheme, compute)
        found.append(StepPart(shape.kind, arithmetic, scene.operations[shape.kind], scene.config.num_layers * seconds))
    seconds = sum(_time_attention(scene, tokens, attention) for tokens in counts)
    kind, arithmetic = operations.ATTENTION, attention_arithmetic(scene, attention)
    return (*found, StepPart(kind, arithmetic, scene.operations[kind], scene.config.num_layers * seconds))


def _products(block: nn.Module) -> list[tuple[nn.Module, ...]]:
    """The layers of BLOCK_PRODUCTS, as one where they are one in memory."""
    qkv, gate = (parts if (whole := fusing.joined(parts)) is None else (whole,) for parts in fusing.together(block))
    return [qkv, (block.get_submodule("attention.to_out.0"),), gate, (block.get_submodule("feed_forward.w2"),)]


def _time(layers: tuple[nn.Module, ...], scene: StepScene, tokens: int, width: int) -> float:
    x = torch.randn(1, tokens, width, device=scene.device, dtype=scene.dtype)
    return timing.typical(lambda: [layer(x) for layer in layers], scene.device, _PASSES)


def _time_attention(scene: StepScene, tokens: int, attention: str) -> float:
    config = scene.config
    shape = 1, tokens, config.num_attention_heads, config.attention_head_dim
    query, key, value = (torch.randn(shape, device=scene.device, dtype=scene.dtype).transpose(1, 2) for _ in range(3))
    attend = attention_named(attention)
    return timing.typical(lambda: attend(query, key, value), scene.device, _PASSES)


def attention_arithmetic(scene: StepScene, attention: str) -> Arithmetic:
    """What the back end that runs computes in."""
    if attention == ATTENTIONS[0]:
        return "float"
    return int8_attention.choose_on(scene.device, scene.dtype, scene.config.attention_head_dim).backend.arithmetic


def _arithmetic(scene: StepScene, scheme: str, compute: str) -> Arithmetic:
    """Arithmetic of a product, int8 only where both branches are quantized: the unconditional one sees the picture alone."""
    few = scene.image_tokens < FEWEST_ROWS
    if scheme == "w8a8":
        return "float" if few and scene.device.type == "cuda" else "int8"
    return "int8" if compute == "int8" and scheme not in (*ORIGINALS, "w8a16") and not few else "float"


def _arithmetic_of_all(scene: StepScene, chosen: Forms, compute: str) -> Arithmetic:
    """int8 where every product of a block is."""
    found = {_arithmetic(scene, chosen[f"layers.0.{name}"].scheme, compute) for name in _NAMES}
    return "int8" if found == {"int8"} else "float"


# ---- by name ----


def _variant(
    name: str,
    label: str,
    scheme: str,
    *,
    rotated: bool = False,
    compute: str = COMPUTES[0],
    attention: str = ATTENTIONS[0],
    overlap: bool = False,
) -> BenchVariant:
    integers = scheme == "int8" or compute == "int8"
    return BenchVariant(
        name,
        label,
        "int8" if integers else "float",
        functools.partial(build, scheme=scheme, rotated=rotated, compute=compute, attention=attention, overlap=overlap),
    )


VARIANTS: tuple[BenchVariant, ...] = (
    _variant(UNQUANTIZED, "weights in the activations' type", "bf16"),
    _variant(FP8, "FP8, weight only (the original)", FP8),
    _variant(NF4, "NF4, weight only (the other original)", NF4),
    _variant("int8", "INT8, plain or smoothed", "int8"),
    _variant("int8-overlap", "INT8, plain or smoothed, branches on two streams", "int8", overlap=True),
    _variant("int8-attention", "INT8, plain or smoothed, int8 attention", "int8", attention="int8"),
    _variant("int8-rotated", "INT8, all W8A8 rotated", "int8", rotated=True),
    _variant("int8-rotated-attention", "INT8, all W8A8 rotated, int8 attention", "int8", rotated=True, attention="int8"),
    _variant("q8_0", "Q8_0", "q8_0"),
    _variant("q8_0-int8", "Q8_0, int8 compute", "q8_0", compute="int8"),
    _variant("q4_k_s", "Q4_K", "q4_k_s"),
    _variant("q4_k_s-int8", "Q4_K, int8 compute", "q4_k_s", compute="int8"),
)
"""Smoothing is folded into the weights: a smoothed build computes what a plain one computes."""
