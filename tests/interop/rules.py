"""What ComfyUI and stable-diffusion.cpp demand of an int8 file's header, written down from their sources as data and predicates.

Nothing of theirs is run or copied, and the header is parsed here, not by safetensors. Sources:

    stable-diffusion.cpp   commit 97d2990, src/model_io/safetensors_io.cpp (read_safetensors_file), src/model_loader.cpp
                           (get_sd_version), src/model/diffusion/ideogram4.hpp, src/core/ggml_extend.hpp (Linear, Embedding)
    ComfyUI                master of 2026-08-22, comfy/model_detection.py, comfy/utils.py (detect_layer_quantization), comfy/ops.py
                           (mixed_precision_ops), comfy/quant_ops.py (QUANT_ALGOS); comfy-kitchen 0.2.40, tensor/int8.py
    musubi-tuner           the metadata key model_type
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.model.architecture import TransformerConfig, tensor_shapes

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
FLOATS = ("F32", "F16", "BF16")
SD_DTYPES = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "I32", "I64", "I8", "U8")
SD_MAX_DIMENSIONS = 5
SD_MAX_MARKER = 64 * 1024
COMFY_OPTIONS = {"format", "convrot", "convrot_groupsize", "full_precision_matrix_mult"}
MODEL_TYPES = ("ideogram4_cond", "ideogram4_uncond")


@dataclass(frozen=True)
class Header:
    """A safetensors header: dtype, shape and byte range of each tensor, the texts, and the markers' contents."""

    tensors: Mapping[str, tuple[str, tuple[int, ...], int, int]]
    metadata: Mapping[str, str]
    markers: Mapping[str, bytes]
    data_bytes: int

    @classmethod
    def read(cls, path: Path) -> Header:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            value = json.loads(file.read(size))
            metadata = value.pop("__metadata__", {})
            tensors = {name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"]) for name, entry in value.items()}
            markers = {}
            for name, (_, _, begin, end) in tensors.items():
                if name.endswith(".comfy_quant"):
                    file.seek(8 + size + begin)
                    markers[name.removesuffix(".comfy_quant")] = file.read(end - begin)
        return cls(tensors, metadata, markers, path.stat().st_size - 8 - size)


def safetensors_problems(header: Header) -> Iterator[str]:
    """The format's own rules: texts only, and data without gaps."""
    if not all(isinstance(text, str) for text in header.metadata.values()):
        yield "metadata is not text"
    place = 0
    for name, (dtype, shape, begin, end) in sorted(header.tensors.items(), key=lambda item: item[1][2:]):
        if begin != place or end - begin != math.prod(shape) * SIZES[dtype]:
            yield f"{name}: data from {begin} to {end}, expected from {place}, {math.prod(shape) * SIZES[dtype]} bytes"
        if begin % SIZES[dtype]:
            yield f"{name}: not aligned"
        place = end
    if place != header.data_bytes:
        yield f"data end at {place} of {header.data_bytes} bytes"


def model_problems(header: Header, config: TransformerConfig) -> Iterator[str]:
    """Both build the module tree with fused names and copy tensors of equal shape into it."""
    shapes = tensor_shapes(config)
    extra = {name for name in header.tensors if not name.endswith((".weight_scale", ".comfy_quant"))} ^ shapes.keys()
    yield from (f"{name}: missing or unknown" for name in sorted(extra))
    for name, shape in shapes.items():
        if name in header.tensors and header.tensors[name][1] != shape:
            yield f"{name}: shape {header.tensors[name][1]}, expected {shape}"


def comfyui_problems(header: Header, config: TransformerConfig) -> Iterator[str]:
    """Detection by embed_image_indicator, input_proj's width and the numbered layers; one marker for each int8 Linear."""
    if "embed_image_indicator.weight" not in header.tensors:
        yield "not detected as Ideogram 4"
    if header.tensors.get("input_proj.weight", ("", (0, 0)))[1][1:] != (config.in_channels,):
        yield "input_proj.weight does not give the channels"
    if {int(match[1]) for name in header.tensors if (match := re.match(r"layers\.(\d+)\.", name))} != set(
        range(config.num_layers)
    ):
        yield "layers are not counted right"
    if header.metadata.get("model_type") not in MODEL_TYPES:
        yield f"model_type is {header.metadata.get('model_type')!r}"
    packed = {name.removesuffix(".weight") for name, (dtype, *_) in header.tensors.items() if dtype == "I8"}
    scaled = {name.removesuffix(".weight_scale") for name in header.tensors if name.endswith(".weight_scale")}
    if not packed == scaled == header.markers.keys():
        apart = packed ^ scaled | packed ^ header.markers.keys()
        yield f"int8 weights, scales and markers are not of the same Linears: {sorted(apart)[:3]}"
    for linear in sorted(packed & scaled & header.markers.keys()):
        yield from (f"{linear}: {problem}" for problem in _comfyui_linear(header, linear))
    for name, (dtype, *_) in header.tensors.items():
        if dtype not in (*FLOATS, "I8") and not name.endswith(".comfy_quant"):
            yield f"{name}: {dtype}"


def _comfyui_linear(header: Header, linear: str) -> Iterator[str]:
    (_, (rows, columns), *_), (scale_dtype, scale_shape, *_) = (
        header.tensors[f"{linear}.{leaf}"] for leaf in ("weight", "weight_scale")
    )
    options = json.loads(header.markers[linear].decode())
    if header.tensors[f"{linear}.comfy_quant"][:2] != ("U8", (len(header.markers[linear]),)):
        yield "the marker is no vector of bytes"
    if options.get("format") != "int8_tensorwise" or not options.keys() <= COMFY_OPTIONS:
        yield f"the marker is {options}"
    if scale_dtype != "F32" or scale_shape != (rows, 1):
        yield f"scale {scale_dtype} {scale_shape}"
    if options.get("convrot") and not (
        _is_power_of_4(options["convrot_groupsize"]) and columns % options["convrot_groupsize"] == 0
    ):
        yield f"groups of {options['convrot_groupsize']} in {columns} inputs"


def stable_diffusion_cpp_problems(header: Header) -> Iterator[str]:
    """Its reader's refusals, and its Linear's: an I8 weight has a marker and one F32 scale a row, [N] or [N, 1]."""
    if not any("embed_image_indicator.weight" in name for name in header.tensors):
        yield "not detected as Ideogram 4"
    for name, (dtype, shape, *_) in header.tensors.items():
        if dtype not in SD_DTYPES or len(shape) > SD_MAX_DIMENSIONS:
            yield f"{name}: {dtype} {shape}"
        linear = name.removesuffix(".comfy_quant")
        if linear != name and (dtype != "U8" or not 0 < len(header.markers[linear]) <= SD_MAX_MARKER):
            yield f"{name}: no marker"
    for name in (name for name, (dtype, *_) in header.tensors.items() if dtype == "I8"):
        linear = name.removesuffix(".weight")
        options = json.loads(header.markers.get(linear, b"{}"))
        rows, columns = header.tensors[name][1]
        scale = header.tensors.get(f"{linear}.weight_scale", ("", ()))
        if options.get("format") != "int8_tensorwise" or scale[0] != "F32" or scale[1] not in ((rows,), (rows, 1)):
            yield f"{name}: marker {options}, scale {scale[:2]}"
        group = options.get("convrot_groupsize", 0)
        if options.get("convrot", False) and not (_is_power_of_4(group) and columns % group == 0):
            yield f"{name}: groups of {group} in {columns} inputs"


def _is_power_of_4(value: int) -> bool:
    return value >= 4 and 4 ** ((value.bit_length() - 1) // 2) == value


def problems(header: Header, config: TransformerConfig) -> list[str]:
    """All of them; none for a file that both read."""
    found = [*safetensors_problems(header), *model_problems(header, config)]
    return [*found, *comfyui_problems(header, config), *stable_diffusion_cpp_problems(header)]
