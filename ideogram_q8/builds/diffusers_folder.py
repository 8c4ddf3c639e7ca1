"""int8 as diffusers' folders: the numbers of the single file under diffusers' names, as torchao `Int8Tensor`.

    transformer/config.json                                    dimensions and torchao's quantization_config
    transformer/diffusion_pytorch_model.safetensors            X._weight_qdata I8 [N, K], X._weight_scale F32 [N, 1], else BF16
    unconditional_transformer/...                              the same
    text_encoder/config.json, text_encoder/model.safetensors   the same, under transformers' names

`Ideogram4Transformer2DModel.from_pretrained` of diffusers 0.42 and `Qwen3VLModel.from_pretrained` of transformers 5.23 open each
folder with torchao 0.18. What a tensor is stands
in the safetensors header (torchao 0.18, prototype/safetensors/safetensors_support.py, BSD-3; diffusers 0.42.1,
quantizers/torchao/torchao_quantizer.py, Apache-2.0), so Linears of one file may differ: w8a8 has `act_quant_kwargs`, w8a16 has none.
torchao computes the same as `Int8Linear` but for the scale of a token, amax / 127.5 there and amax / 127 here: codes of activations
differ by their rounding. It has no rotation, so rotated recipes are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

from ideogram_q8.builds.packed import Int8Weight, Packed
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import TensorRecord
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, WEIGHT_FILES, PartName, diffusers_names
from ideogram_q8.model.components import Dimensions, TextEncoderConfig, component
from ideogram_q8.model.schemes import INT8_SCHEMES
from ideogram_q8.recipes import LayerPlan, Recipe

_OFFICIAL_FP8 = "ideogram_fp8_weight_only"
"""The key in the official text encoder's config.json that says that it is FP8."""
_PER_ROW = {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}
_SYMMETRIC = {"_type": "MappingType", "_data": "SYMMETRIC"}
_PER_TOKEN = {
    "_type": "QuantizeTensorToInt8Kwargs",
    "_data": {
        "granularity": {"_type": "PerRow", "_data": {"dim": -1}},
        "mapping_type": _SYMMETRIC,
        "reduce_range": False,
    },
}
_CONFIGS: Mapping[str, tuple[str, dict[str, object]]] = {
    "w8a8": (
        "Int8DynamicActivationInt8WeightConfig",
        {
            "act_mapping_type": _SYMMETRIC,
            "weight_only_decode": False,
            "granularity": _PER_ROW,
            "set_inductor_config": True,
            "reduce_range": False,
        },
    ),
    "w8a16": ("Int8WeightOnlyConfig", {"group_size": None, "granularity": _PER_ROW, "set_inductor_config": True}),
}


def check(recipe: Recipe) -> None:
    """Raises ArtifactError: torchao cannot compute what the recipe asks for."""
    if recipe.scheme != "int8":
        raise ArtifactError(f"{recipe.variant} cannot be a diffusers folder: torchao stores int8; build one with --scheme int8")
    for name, part in recipe.parts.items():
        rotated = [layer.linear for layer in part.layers if layer.rotation and layer.scheme in INT8_SCHEMES]
        if rotated:
            raise ArtifactError(
                f"{recipe.variant} cannot be a diffusers folder: torchao has no rotation, and {len(rotated)} Linears of {name} are "
                f"rotated, the first is {rotated[0]}; keep the single file, or `recipe make --policy auto --no-rotation`"
            )


def file_name(part: PartName) -> str:
    """`transformer/diffusion_pytorch_model.safetensors`, ..."""
    return f"{COMPONENT_FOLDERS[part]}/{WEIGHT_FILES[part]}"


def stored_tensors(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, tuple[TensorRecord, ...]]:
    """The tensors of a part's weight file for each official tensor; a fused qkv gives those of q, then k, then v."""
    plans = _plans(recipe, part)
    return {name: _stored(name, shape, plans.get(name)) for name, shape in component(config).shapes.items()}


def _plans(recipe: Recipe, part: PartName) -> dict[str, LayerPlan]:
    """The plan of each Linear's weight, by its official name with `.weight`."""
    return {f"{layer.linear}.weight": layer for layer in recipe.parts[part].layers}


def _stored(name: str, shape: tuple[int, ...], plan: LayerPlan | None) -> tuple[TensorRecord, ...]:
    parts = diffusers_names(name)
    rows = shape[0] // len(parts)
    if plan is None or plan.scheme not in INT8_SCHEMES:
        return tuple(TensorRecord(part, (rows, *shape[1:]), "BF16", "bf16") for part in parts)
    records = []
    for part in parts:
        linear = part.removesuffix(".weight")
        records.append(TensorRecord(f"{linear}._weight_qdata", (rows, *shape[1:]), "I8", plan.scheme))
        records.append(TensorRecord(f"{linear}._weight_scale", (rows, 1), "F32", plan.scheme))
    return tuple(records)


def split(name: str, weight: Packed | torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The official tensor `name`, packed or plain, as the tensors that `stored_tensors` plans for it; they share its memory."""
    count = len(diffusers_names(name))
    if isinstance(weight, torch.Tensor):
        return weight.chunk(count)
    assert isinstance(weight, Int8Weight)
    pairs = zip(weight.codes.chunk(count), weight.scale.chunk(count), strict=True)
    return tuple(tensor for pair in pairs for tensor in pair)


def metadata(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, str]:
    """What the readers want in a weight file's header: torchao the names of all tensors and what each is, transformers `format`."""
    plans = _plans(recipe, part)
    entries: dict[str, str] = {}
    for name, shape in component(config).shapes.items():
        description = json.dumps(_describe(plans.get(name), shape))
        entries |= dict.fromkeys(diffusers_names(name), description)
    own = {"format": "pt"} if part == "text_encoder" else {}
    return {**entries, "tensor_names": json.dumps(list(entries)), **own}


def _describe(plan: LayerPlan | None, shape: tuple[int, ...]) -> dict[str, object]:
    if plan is None or plan.scheme not in INT8_SCHEMES:
        return {"_type": "Tensor"}
    data = {
        "act_quant_kwargs": _PER_TOKEN if plan.scheme == "w8a8" else None,
        "reduce_range": False,
        "block_size": [1, shape[1]],
        "dtype": {"_type": "torch.dtype", "_data": "bfloat16"},
    }
    return {"_type": "Int8Tensor", "_data": data, "_tensor_data_names": ["qdata", "scale"]}


def texts(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, str]:
    """The text files of a part, by their paths in the artifact's folder."""
    value = {**config.to_json(), "quantization_config": _quantization_config(config, recipe, part)}
    if isinstance(config, TextEncoderConfig):
        value.pop(_OFFICIAL_FP8, None)
        value |= {"architectures": ["Qwen3VLModel"], "dtype": "bfloat16"}
    return {f"{COMPONENT_FOLDERS[part]}/config.json": json.dumps(value, indent=2) + "\n"}


def _quantization_config(config: Dimensions, recipe: Recipe, part: PartName) -> dict[str, object]:
    """The kind of most int8 Linears, and the names of those that are none: the header decides, this is what people read."""
    plans = _plans(recipe, part)
    schemes = [plan.scheme for plan in plans.values() if plan.scheme in INT8_SCHEMES]
    kind, data = _CONFIGS["w8a16" if schemes.count("w8a16") > schemes.count("w8a8") else "w8a8"]
    plain = [name for name in (f"{linear.name}.weight" for linear in component(config).linears) if plans[name].scheme == "bf16"]
    return {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": kind, "_version": 2, "_data": data}},
        "modules_to_not_convert": [found.removesuffix(".weight") for name in plain for found in diffusers_names(name)],
    }
