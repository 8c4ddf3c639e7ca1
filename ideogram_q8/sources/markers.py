"""What ComfyUI's files say of each quantized Linear, and how older and neighbouring files say the same.

    X.comfy_quant            U8 tensor with JSON: {"format": "float8_e4m3fn"}, {"format": "int8_tensorwise", "convrot": true, ...}
    _quantization_metadata   the same for all Linears in the header's metadata: {"format_version": "1.0", "layers": {"X": {...}}}
    scaled_fp8               ComfyUI before either: a tensor of that name, and X.scale_weight, X.scale_input for today's X.weight_scale,
                             X.input_scale (comfy/utils.py, `convert_old_quants`; GPL-3.0, read, not copied)

Scales of activations (X.input_scale) are of no use here: FP8 weights are multiplied out, activations stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.safetensors_header import SafetensorsHeader
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.formats.strict_json import parse_json

FP8, INT8 = ("float8_e4m3fn", "float8_e4m3fn_rowwise"), "int8_tensorwise"
GROUPS = (4, 16, 64, 256, 1024)
"""Sizes that a rotation's groups can have."""
_METADATA = "_quantization_metadata"
_LEGACY = "scaled_fp8"
_RENAMED = {".scale_weight": ".weight_scale", ".scale_input": ".input_scale"}
_COMMON = {"format", "full_precision_matrix_mult", "params"}
_KEYS: Mapping[str, set[str]] = dict.fromkeys(FP8, _COMMON) | {INT8: _COMMON | {"convrot", "convrot_groupsize"}}
_GROUP = 256
"""ComfyUI's, where a rotated weight does not say."""


@dataclass(frozen=True)
class Marker:
    """What a Linear is stored as: `rotation` is the size of the groups of inputs that are rotated, 0 = none."""

    format: str
    rotation: int = 0
    weight_only: bool = False


def today(stored: Mapping[str, StoredTensor], where: str) -> dict[str, StoredTensor]:
    """The tensors under today's names, where they have ComfyUI's former ones. Raises SourceError: one has both."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        if name == _LEGACY:
            continue
        ending = next((ending for ending in _RENAMED if name.endswith(ending)), "")
        own = name.removesuffix(ending) + _RENAMED.get(ending, "")
        if own in found or (ending and own in stored):
            raise SourceError(f"{where} has both {own} and its former name; expected one of them")
        found[own] = tensor
    return found


def listed(metadata: Mapping[str, str], where: str) -> dict[str, object]:
    """What the header's metadata say of Linears, by the names that they have in the file. Raises SourceError: it is not of that form."""
    text = metadata.get(_METADATA)
    if text is None:
        return {}
    value = parse_json(text, f"{where}: {_METADATA}", SourceError)
    layers = value.get("layers") if isinstance(value, dict) else None
    if not isinstance(layers, dict):
        raise SourceError(f"{where}: {_METADATA} is {text[:60]!r}, expected an object with layers")
    return layers


def all_of(header: SafetensorsHeader, where: str) -> list[Marker]:
    """The markers in a file and in its header's metadata. Raises SourceError: one is not of a known form."""
    tensors = {name: tensor for name, tensor in header.tensors.items() if name.endswith(".comfy_quant")}
    found = [parse(parse_json(tensor.read_text(), str(tensor), SourceError), name) for name, tensor in tensors.items()]
    return found + [parse(value, name) for name, value in listed(header.metadata, where).items()]


def parse(value: object, name: str) -> Marker:
    """A marker's JSON value. Raises SourceError, which names `name`: not of a known form."""
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise SourceError(f"{name} holds {str(value)[:60]!r}, expected a JSON object with a format")
    found = Marker(value["format"])
    keys = _KEYS.get(found.format)
    if keys is None:
        return found  # whoever asked says that it is not read
    flags = [value.get(key, False) for key in ("convrot", "full_precision_matrix_mult")]
    group = value.get("convrot_groupsize", _GROUP)
    if not set(value) <= keys or value.get("params", {}) not in ({}, None) or not all(type(flag) is bool for flag in flags):
        raise SourceError(
            f"{name} is {str(value)[:120]}, expected the format {found.format} with {', '.join(sorted(keys))} at most"
        )
    if flags[0] and group not in GROUPS:
        raise SourceError(f"{name} is rotated in groups of {str(group)[:20]}, expected one of {', '.join(map(str, GROUPS))}")
    return Marker(found.format, group if flags[0] else 0, flags[1])
