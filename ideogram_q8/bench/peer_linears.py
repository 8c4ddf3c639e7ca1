"""Linears of other people's libraries, to be measured beside ours: comfy-kitchen, and torchao and SDNQ where they are installed.

SDNQ is GPL-3.0: it is called where a user has it, and nothing here comes from it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import nn

from ideogram_q8.artifact.packed import Int8Weight
from ideogram_q8.errors import ResourceError

Function = Callable[[torch.Tensor], torch.Tensor]


def require(module: str, package: str) -> None:
    """Raises ResourceError unless a package is installed."""
    if importlib.util.find_spec(module) is None:
        raise ResourceError(f"{package} is not installed")


def to_torchao(module: nn.Module, names: tuple[str, ...]) -> None:
    """Makes the Linears of `module` with these names torchao's, with int8 weights and activations quantized as they come."""
    require("torchao", "torchao")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries for CUDA that do not load on a CPU
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(module, Int8DynamicActivationInt8WeightConfig(version=2), filter_fn=lambda _, name: name in names)


def to_sdnq(module: nn.Module, names: tuple[str, ...]) -> None:
    """The same with SDNQ: int8 weights by row, int8 products."""
    require("sdnq", "sdnq")
    require("accelerate", "accelerate, which SDNQ needs,")
    from sdnq import sdnq_post_load_quant

    others = [name for name, part in module.named_modules() if isinstance(part, nn.Linear) and name not in names]
    sdnq_post_load_quant(
        module, weights_dtype="int8", use_quantized_matmul=True, add_skip_keys=False, modules_to_not_convert=others
    )


Convert = Callable[[nn.Module, tuple[str, ...]], None]


def converted(weight: torch.Tensor, convert: Convert, compiled: bool) -> Function:
    """y = x @ weight^T by a library, compiled if asked for."""
    outputs, inputs = weight.shape
    holder = nn.Module()
    holder.linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    holder.linear.weight = nn.Parameter(weight, requires_grad=False)
    convert(holder, ("linear",))
    layer = holder.get_submodule("linear")
    # the mode that torchao's own benchmarks use: without it sums go to memory as int32
    return torch.compile(layer, mode="max-autotune-no-cudagraphs") if compiled else layer


def kitchen(packed: Int8Weight) -> Function:
    """comfy-kitchen's fused Linear, rotating its inputs where the weight is rotated, as ComfyUI calls it."""
    import comfy_kitchen

    options = {"convrot": True, "convrot_groupsize": packed.rotation} if packed.rotation else {}

    def linear(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = comfy_kitchen.int8_linear(x, packed.codes, packed.scale, None, x.dtype, **options)
        return found

    return linear
