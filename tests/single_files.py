"""Single safetensors files as other programs write them, made of a source's weights by torch and safetensors alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from ideogram_q8.model.architecture import BRANCHES, Branch, linears
from ideogram_q8.sources import Source
from tests.synthetic import Tensors, text_tensor

NAMES: Mapping[Branch, str] = {
    "conditional": "ideogram4_int8.safetensors",
    "unconditional": "ideogram4_unconditional_int8.safetensors",
}
COMFY_TYPES = {"conditional": "ideogram4_cond", "unconditional": "ideogram4_uncond"}


def plain(source: Source, branch: Branch) -> Tensors:
    """All tensors of a branch in bfloat16."""
    reader = source.branch(branch)
    return {name: reader.read(name) for name in reader.names}


def in_blocks(source: Source) -> list[str]:
    """The Linears that Comfy-Org quantizes to int8."""
    return [linear.name for linear in linears(source.config) if linear.in_block]


def fp8_scaled(source: Source, branch: Branch) -> Tensors:
    """As Comfy-Org's fp8_scaled: all Linears e4m3 with one scale, and a marker."""
    found = plain(source, branch)
    for linear in linears(source.config):
        weight = found[f"{linear.name}.weight"].float()
        scale = weight.abs().max() / 448
        found[f"{linear.name}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        found[f"{linear.name}.weight_scale"] = scale
        found[f"{linear.name}.comfy_quant"] = text_tensor('{"format": "float8_e4m3fn"}')
    return found


def int8(source: Source, branch: Branch, group: int = 0, marker: Mapping[str, object] | None = None) -> Tensors:
    """As Comfy-Org's int8 and int8_convrot: Linears of the blocks I8 with a scale a row, rotated where the width allows it."""
    from comfy_kitchen.tensor.int8_utils import _build_hadamard, _rotate_weight  # the library that such files are for

    found = plain(source, branch)
    for name in in_blocks(source):
        weight = found[f"{name}.weight"].float()
        rotated = group > 0 and weight.shape[1] % group == 0
        if rotated:
            weight = _rotate_weight(weight, _build_hadamard(group, device="cpu", dtype=torch.float32), group)
        scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        found[f"{name}.weight"] = (weight / scale).round().clamp(-127, 127).to(torch.int8)
        found[f"{name}.weight_scale"] = scale
        said = (
            {"format": "int8_tensorwise"} | ({"convrot": True, "convrot_groupsize": group} if rotated else {}) | (marker or {})
        )
        found[f"{name}.comfy_quant"] = text_tensor(json.dumps(said))
    return found


def write_pair(
    folder: Path,
    source: Source,
    make: Callable[[Source, Branch], Tensors],
    names: Mapping[Branch, str] = NAMES,
    metadata: Callable[[Branch], dict[str, str]] = lambda branch: {"model_type": COMFY_TYPES[branch]},
) -> Path:
    """Both files; returns the conditional one's path."""
    folder.mkdir(exist_ok=True, parents=True)
    for branch in BRANCHES:
        save_file(make(source, branch), folder / names[branch], metadata(branch))
    return folder / names["conditional"]
