"""What a picture takes before anything is loaded: bytes of every stage under each placement plan, from shapes and schemes alone.

A picture has three stages: the caption is encoded, latents are denoised, the picture is decoded. Plans say what of the networks stays
on the device meanwhile; they are tried in order, fastest first. Host memory that a plan asks for is pinned, so it counts as well.
What is left out: the libraries' own memory and the allocator's slack, for which `usage.room` leaves some of a card; and other programs.
Branches are counted one after the other: both run at once only where there is room left (`Model.placement`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine.devices import ATTENTIONS, AUTO, COMPUTES
from ideogram_q8.model.architecture import (
    BRANCHES,
    MAX_TEXT_TOKENS,
    PRESETS,
    SIDE_MULTIPLE,
    TEXT_PROJECTION,
    TEXT_TAPS,
    Branch,
    Linear,
    TransformerConfig,
    linears,
    split_block,
    tensor_shapes,
)
from ideogram_q8.model.schemes import INT8_SCHEMES
from ideogram_q8.numerics import nf4
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.runtime.generation.decoding import strip_values
from ideogram_q8.runtime.kernels.choosing.scratch import attention_scratch_bytes, kept_bytes, scratch_bytes
from ideogram_q8.runtime.kernels.linear import cpu
from ideogram_q8.runtime.loading.streaming import SLOTS, STREAMED
from ideogram_q8.runtime.memory.usage import Activations

_MOST_STEPS = max(preset.steps for preset in PRESETS.values())


@dataclass(frozen=True)
class Plan:
    """Where the networks are. `streamed` branches and a `streamed` encoder stay in host memory and visit block by block.

    An encoder that is `freed` is on the device for the first stage only; `resident`, for all of them. `key` is what people type, `name`
    what they read.
    """

    key: str
    name: str
    streamed: tuple[Branch, ...]
    encoder: Literal["resident", "freed", "streamed"]


PLANS: tuple[Plan, ...] = (
    Plan("resident", "all resident", (), "resident"),
    Plan("freed", "text encoder freed after use", (), "freed"),
    Plan("encoder", "text encoder streamed", (), "streamed"),
    Plan("unconditional", "unconditional branch and text encoder streamed", ("unconditional",), "streamed"),
    Plan("both", "both branches and text encoder streamed", ("unconditional", "conditional"), "streamed"),
)
"""Fastest first. A freed encoder is read from disk again for the next new caption."""
_PLANS_OF_ONE = (*PLANS[:3], Plan("both", "transformer and text encoder streamed", ("conditional",), "streamed"))


@dataclass(frozen=True)
class Encoder:
    """Bytes of a text encoder's language model: all of it, and its largest layer."""

    total: int
    layer: int
    width: int


@dataclass(frozen=True)
class Networks:
    """What is loaded. `schemes` has a scheme for each Linear of a branch: "fp8", "nf4", those of recipes, or a float type.

    Branches that `schemes` does not name are neither loaded nor computed.

    `vae_bytes` of the VAE; `vae_channels` before and after the first layer of its decoder's last block, at the picture's full size.
    """

    config: TransformerConfig
    schemes: Mapping[Branch, Mapping[str, str]]
    encoder: Encoder
    vae_bytes: int
    vae_channels: tuple[int, int]
    dtype: torch.dtype
    compute: str = COMPUTES[0]
    """One of COMPUTES, what Linears in ggml's blocks compute in."""
    attention: str = ATTENTIONS[0]
    """One of ATTENTIONS."""


@dataclass(frozen=True)
class Footprint:
    """Peak bytes on the device in each stage, and bytes in host memory."""

    plan: Plan
    text: int
    denoise: int
    decode: int
    host: int

    @property
    def peak(self) -> int:
        return max(self.text, self.denoise, self.decode)


def footprint(
    networks: Networks, plan: Plan, size: tuple[int, int], text_tokens: int = MAX_TEXT_TOKENS, device: str = "cuda"
) -> Footprint:
    """What `plan` takes for one picture of `size` (width, height) whose caption has `text_tokens` tokens."""
    streamed = list(itertools.chain.from_iterable(_block_bytes(networks, branch) for branch in plan.streamed))
    kept = sum(branch_bytes(networks, branch) for branch in networks.schemes) - sum(streamed) + SLOTS * max(streamed, default=0)
    encoder = networks.encoder
    beside = {"resident": encoder.total, "freed": 0, "streamed": SLOTS * encoder.layer}[plan.encoder]
    base = kept + networks.vae_bytes
    while_encoding = encoder.total if plan.encoder == "freed" else beside
    needed = activations(networks, size, text_tokens, device)
    return Footprint(
        plan,
        base + while_encoding + needed.text,
        base + beside + needed.denoise,
        base + beside + needed.decode,
        sum(streamed) + (encoder.total if plan.encoder == "streamed" else 0),
    )


@dataclass(frozen=True)
class PlanChoice:
    """The first plan that fits, None where none does; and faster ones that the device has room for, but not the host."""

    fits: Footprint | None
    short_of_host: tuple[Footprint, ...]


def choose_plan(
    networks: Networks,
    size: tuple[int, int],
    available: int,
    text_tokens: int = MAX_TEXT_TOKENS,
    device: str = "cuda",
    host: int = sys.maxsize,
) -> PlanChoice:
    """The first plan within `available` bytes of the device and `host` bytes of pinned main memory."""
    skipped: list[Footprint] = []
    for plan in plans(device, networks.schemes):
        found = footprint(networks, plan, size, text_tokens, device)
        if found.peak <= available and found.host <= host:
            return PlanChoice(found, tuple(skipped))
        if found.peak <= available:
            skipped.append(found)
    return PlanChoice(None, tuple(skipped))


def pins(found: Footprint, host: int) -> str:
    """What a plan pins of main memory, and what can be pinned: in words."""
    return f"pins {gigabytes(found.host)} of main memory, {gigabytes(host)} can be"


def first_that_fits(
    networks: Networks, size: tuple[int, int], available: int, text_tokens: int = MAX_TEXT_TOKENS, device: str = "cuda"
) -> Footprint | None:
    """The footprint of the first plan within `available` bytes of the device; None where none is."""
    return choose_plan(networks, size, available, text_tokens, device).fits


def least(networks: Networks, size: tuple[int, int], text_tokens: int = MAX_TEXT_TOKENS, device: str = "cuda") -> Footprint:
    """The footprint of the plan with the smallest peak."""
    return min(
        (footprint(networks, plan, size, text_tokens, device) for plan in plans(device, networks.schemes)),
        key=lambda each: each.peak,
    )


def plans(device: str, branches: Collection[Branch] = BRANCHES) -> tuple[Plan, ...]:
    """Plans for a kind of device, a CPU has nothing to stream from, and for the transformers that there are."""
    known = PLANS if len(branches) == len(BRANCHES) else _PLANS_OF_ONE
    return tuple(plan for plan in known if device == "cuda" or plan.encoder != "streamed")


def plan_named(key: str, device: str, branches: Collection[Branch] = BRANCHES) -> Plan:
    """The plan of `devices.PLANS` that a person asks for.

    Raises:
        RequestError: there is none of this name for a kind of device, or for one transformer.
    """
    found = {plan.key: plan for plan in plans(device, branches)}
    if key not in found:
        where = device if len(branches) == len(BRANCHES) else f"{device} with one transformer"
        raise RequestError(f"--plan is {key}, on {where} expected one of {', '.join((AUTO, *found))}")
    return found[key]


# ---- weights ----


def linear_bytes(linear: Linear, scheme: str, dtype: torch.dtype, compute: str = COMPUTES[0]) -> int:
    """Bytes of a Linear as `layers` holds it, without its bias."""
    outputs, inputs = linear.out_features, linear.in_features
    if scheme in BLOCKS:
        return outputs * (BLOCKS[scheme].row_bytes(inputs) + (4 if compute == "int8" else 0))
    if scheme == "nf4" and inputs % nf4.BLOCK == 0:  # else blocks lie across rows, and it is loaded as values
        return outputs * inputs // 2 + 4 * outputs * inputs // nf4.BLOCK
    if scheme == "fp8" or scheme in INT8_SCHEMES:
        return outputs * inputs + 4 * outputs
    return outputs * inputs * dtype.itemsize


def branch_bytes(networks: Networks, branch: Branch) -> int:
    """Bytes of all tensors of a branch as they are loaded, the unconditional one without the text projection."""
    weights = {f"{linear.name}.weight": linear for linear in linears(networks.config)}
    total = 0
    for name, shape in tensor_shapes(networks.config).items():
        if branch == "unconditional" and name.partition(".")[0] in TEXT_PROJECTION:
            continue
        if name in weights:
            scheme = networks.schemes[branch][weights[name].name]
            total += linear_bytes(weights[name], scheme, networks.dtype, networks.compute)
        else:
            total += torch.Size(shape).numel() * networks.dtype.itemsize
    return total


def _block_bytes(networks: Networks, branch: Branch) -> Iterator[int]:
    """What of each block is streamed."""
    config, found = networks.config, [0] * networks.config.num_layers
    for linear in linears(config):
        if linear.in_block and linear.kind.startswith(STREAMED):
            index = int(split_block(linear.name)[0].split(".")[-2])
            found[index] += linear_bytes(linear, networks.schemes[branch][linear.name], networks.dtype, networks.compute)
    norms = 2 * config.attention_head_dim * networks.dtype.itemsize
    return (bytes_ + norms for bytes_ in found)


def has_w8a8(networks: Networks) -> bool:
    """Whether any Linear computes in int8."""
    return any("w8a8" in schemes.values() for schemes in networks.schemes.values())


# ---- activations ----


def activations(
    networks: Networks,
    size: tuple[int, int],
    text_tokens: int = MAX_TEXT_TOKENS,
    device: str = "cuda",
    overlap: bool = False,
) -> Activations:
    """Bytes of activations in all stages of one picture; with `overlap`, of both branches at once."""
    return Activations(
        encode_activation_bytes(networks, text_tokens, device),
        denoise_activation_bytes(networks, size, text_tokens, device, overlap),
        decode_activation_bytes(networks.vae_channels, size, networks.dtype, device),
    )


def encode_activation_bytes(networks: Networks, tokens: int, device: str) -> int:
    """Bytes of the first stage: features in float32 and in the activations' dtype, then what normalizing or projecting takes."""
    config, item = networks.config, networks.dtype.itemsize
    features = len(TEXT_TAPS) * networks.encoder.width * tokens
    given = features * (4 + (item if item < 4 else 0))
    scheme = networks.schemes["conditional"][TEXT_PROJECTION[1]]
    shape = tokens, config.hidden_size, config.llm_features_dim
    projecting = scratch_bytes(scheme, *shape, networks.dtype, device, networks.compute) + tokens * config.hidden_size * item
    return given + max(features * 2 * 4, features * item + projecting)  # a norm computes in float32


def denoise_activation_bytes(
    networks: Networks, size: tuple[int, int], text_tokens: int, device: str, overlap: bool = False
) -> int:
    """The largest sum of tensors alive at once in one branch, or in both, beside what is kept for all steps (`denoising`)."""
    config, item = networks.config, networks.dtype.itemsize
    image = size[0] * size[1] // SIDE_MULTIPLE**2
    tokens = text_tokens + image
    count = len(networks.schemes)
    kept = count * _MOST_STEPS * (4 * config.num_layers + 1) * config.hidden_size * item
    kept += count * (2 * tokens) * config.attention_head_dim * item  # cosines and sines of each branch
    kept += text_tokens * config.hidden_size * 2 * item + 4 * image * config.in_channels * 4
    kept += _workspace(networks, networks.schemes, device) + (
        _workspace(networks, ("unconditional",), device) if overlap else 0
    )
    return kept + _block_peak(networks, tokens, device) + (_block_peak(networks, image, device) if overlap else 0)


def _workspace(networks: Networks, branches: Iterable[Branch], device: str) -> int:
    """Bytes that stay taken for expanded weights on the stream that computes `branches`: as the largest weight of each dtype needs.

    w1 and w3 of a block are one weight. The caption's projection is expanded before the first step, by the conditional branch.
    """
    largest: dict[str, int] = {}
    for branch in branches:
        for linear in linears(networks.config):
            if linear.name == TEXT_PROJECTION[1] and branch == "unconditional":
                continue
            scheme, compute = networks.schemes[branch][linear.name], networks.compute
            outputs = linear.out_features * (2 if linear.kind in ("feed_forward.w1", "feed_forward.w3") else 1)
            found = kept_bytes(scheme, outputs, linear.in_features, networks.dtype, device, compute)
            arithmetic = compute if scheme in BLOCKS else COMPUTES[0]
            largest[arithmetic] = max(largest.get(arithmetic, 0), found)
    return sum(largest.values())


def _block_peak(networks: Networks, tokens: int, device: str) -> int:
    """Peak bytes of the activations of a branch that sees so many tokens.

    A block peaks at one of its products or between them: units are [tokens, hidden] and [tokens, feed-forward] in the dtype of the
    activations; each product has its input, its output and what its kernel needs meanwhile.
    """
    config, item = networks.config, networks.dtype.itemsize
    # the residual, q k v, and one of them normalized and turned; a CPU normalizes halves in float32, in three maps
    placing = tokens * config.hidden_size * (4 * item + (12 if device == "cpu" and item < 4 else 2 * item))
    attending = 5 * tokens * config.hidden_size * item  # the residual, q k v, and what becomes of them
    if networks.attention == "int8":
        attending += attention_scratch_bytes(tokens, config.num_attention_heads, config.attention_head_dim, device)
    return max(
        placing, attending, *(_product_peak(networks, kind, scheme, tokens, device) for kind, scheme in _products(networks))
    )


def _products(networks: Networks) -> set[tuple[str, str]]:
    """Kinds of products of a block, and the schemes that they have somewhere."""
    names = [(linear.name, linear.kind) for linear in linears(networks.config) if linear.in_block and linear.sees_tokens]
    return {(kind, networks.schemes[branch][name]) for branch in networks.schemes for name, kind in names}


def _product_peak(networks: Networks, kind: str, scheme: str, tokens: int, device: str) -> int:
    """What is alive while the products of a kind are computed, in a block where they have this scheme."""
    config, item, dtype = networks.config, networks.dtype.itemsize, networks.dtype
    hidden, gates = config.hidden_size, config.intermediate_size
    stream, ffn = tokens * hidden * item, tokens * gates * item
    int8 = scheme == "w8a8" or (scheme in BLOCKS and networks.compute == "int8")
    in_pieces = scheme == "w8a8" and device == "cpu"
    apart = scheme in BLOCKS and device == "cpu"  # what a file maps is not adjoined

    def product(outputs: int, inputs: int, before: bool) -> int:
        """Scratch, and the input that was made for this product alone."""
        made = tokens * inputs * item if before and not in_pieces else 0
        shape = outputs, inputs, dtype, device, networks.compute
        return made + scratch_bytes(scheme, tokens, *shape) - kept_bytes(scheme, *shape)  # the other part is `_workspace`

    match kind:
        case "attention.qkv":
            folded = int8 and device == "cpu"  # the norm, into a product that is one in any file
            return 4 * stream + product(3 * hidden, hidden, before=not folded)  # the residual, q k v
        case "attention.o":
            return 3 * stream + product(hidden, hidden, before=False)
        case "feed_forward.w2" if int8 and (in_pieces or device != "cpu"):
            return 2 * stream + 2 * ffn + product(hidden, gates, before=True)
        case "feed_forward.w2":
            return max(stream + 3 * ffn, 2 * stream + ffn + product(hidden, gates, before=False))
        case _:
            return stream + 2 * ffn + product(gates if apart else 2 * gates, hidden, before=True)  # w1 and w3


def decode_activation_bytes(channels: tuple[int, int], size: tuple[int, int], dtype: torch.dtype, device: str) -> int:
    """`decoding.run_decoder` at the picture's full size: the larger of two layers, with what their strips take.

    In the first layer of the last block its input and two maps, beside a strip's own input and output. On a CPU also in the layer before,
    which enlarges: its input, a quarter as large, and its output, beside a strip's input and both as oneDNN lays them out.
    """
    before, after = channels
    pixels, item = size[0] * size[1], dtype.itemsize
    most = strip_values(device)
    last = (before + 2 * after) * pixels * item + min(most, after * pixels) * (4 + 2 * item)
    if device != "cpu":
        return last
    strip = min(pixels, most // before)
    return max(last, before * pixels * item * 5 // 4 + strip * (before + 2 * cpu.convolved_channels(before)) * item)
