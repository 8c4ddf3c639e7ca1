"""Linears of other people's libraries, to be measured beside ours: comfy-kitchen, and torchao and SDNQ where they are installed.

SDNQ is GPL-3.0: it is called where a user has it, and nothing here comes from it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ideogram_q8.builds.packed import Int8Weight
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

        # by itself it would change inductor's settings for all that is compiled later: `compiling` has them
        config = Int8DynamicActivationInt8WeightConfig(version=2, set_inductor_config=False)
        quantize_(module, config, filter_fn=lambda _, name: name in names)


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
_MAX = "max-autotune-no-cudagraphs"
"""What torchao's own benchmarks compile with: without it, int8 products leave their int32 sums in memory."""
_TORCHAO = {
    "coordinate_descent_tuning": True,
    "coordinate_descent_check_all_directions": True,
    "force_fuse_int_mm_with_mul": True,
}
"""What torchao sets of inductor (`recommended_inductor_config_setter` of 0.18, BSD-3), where torch has another default."""


def mode(convert: Convert | None) -> str:
    """What a library's Linears are compiled in, or none's."""
    return "default" if convert is None else _MAX


def compiling(convert: Convert | None) -> dict[str, Any]:
    """Arguments of torch.compile, for one shape: nothing that is compiled later sees them."""
    options = torch._inductor.list_mode_options(mode(convert))
    return {"options": {**options, **(_TORCHAO if convert is to_torchao else {})}, "dynamic": False}


def refuses_to_compile(device: torch.device) -> str | None:
    """Why torch.compile cannot be had. On a CPU it needs a compiler of C++, on CUDA Triton, which comes with torch."""
    compiler = os.environ.get("CXX", "g++")
    if device.type != "cpu" or shutil.which(compiler) is not None:
        return None
    return f"no C++ compiler ({compiler}) is here"


def forget() -> None:
    """Drops what was compiled: torch compiles the same code for eight sets of modules and shapes, and runs more as they are."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def converted(weight: torch.Tensor, convert: Convert) -> tuple[Function, str]:
    """y = x @ weight^T by a library, compiled where that is possible, and a note."""
    outputs, inputs = weight.shape
    holder = nn.Module()
    holder.linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    holder.linear.weight = nn.Parameter(weight, requires_grad=False)
    convert(holder, ("linear",))
    layer = holder.get_submodule("linear")
    reason = refuses_to_compile(weight.device)
    return (torch.compile(layer, **compiling(convert)), COMPILED) if reason is None else (layer, f"not compiled: {reason}")


COMPILED = "compiled"
"""The note of what its first call compiles."""


def kitchen(packed: Int8Weight) -> Function:
    """comfy-kitchen's fused Linear, rotating its inputs where the weight is rotated, as ComfyUI calls it."""
    import comfy_kitchen

    options = {"convrot": True, "convrot_groupsize": packed.rotation} if packed.rotation else {}

    def linear(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = comfy_kitchen.int8_linear(x, packed.codes, packed.scale, None, x.dtype, **options)
        return found

    return linear
