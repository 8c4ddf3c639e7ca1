"""comfy-kitchen's fused W8A8 linear and its int8 attention (Apache-2.0), where it is installed and has its CUDA back end.

Its activations are quantized otherwise than by our definition (`numerics.int8`), which divides in float32: it rounds the scale and the
quotient to the dtype of the activations, then multiplies by the scale that was not rounded. No code differs by more than one, and one
may be -128. With comfy-kitchen 0.2.40 in plain torch, whose steps are those of its CUDA source, on 256 rows of 4608 inputs and normal
weights, codes that differ and SNR of the Linear's output to float64 by our definition and by it:

    activations         bfloat16                        float16
    normal              7.5 %  38.1 dB -> 37.9 dB       0.9 %  38.2 dB -> 38.2 dB
    heavy-tailed        3.0 %  34.0 dB -> 33.9 dB       0.4 %  34.2 dB -> 34.2 dB
    outliers of 30      0.6 %  22.1 dB -> 22.1 dB       0.1 %  22.0 dB -> 22.0 dB

In 0.2.40 its CUDA back end folds a norm, SwiGLU and the rotation into the quantizer for rotated rows (groups of 256); before rows that
are not rotated it runs the first two by themselves. It rotates in full float32, we on a grid (`numerics.rotation`): an input may then
get the next code.
"""

from __future__ import annotations

import functools

import torch

from ideogram_q8.runtime.kernels.linear.prologue import Prologue

_DTYPES = (torch.bfloat16, torch.float16)
_WIDEST_HEAD = 256


def linear(
    x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, before: Prologue
) -> torch.Tensor:
    """`kernels.int8_linear` for bfloat16 or float16 [M, ...]; the bias is rounded to the dtype of `x` first."""
    import comfy_kitchen

    return comfy_kitchen.int8_linear(
        x,
        codes,
        scale,
        bias,
        x.dtype,
        convrot=before.rotation > 0,
        convrot_groupsize=before.rotation or 256,
        input_act=before.step or None,
        input_act_weight=before.factor,
        input_act_eps=before.eps,
    )


def refuses(capability: tuple[int, int] | None, dtype: torch.dtype) -> str | None:
    """Why `linear` cannot compute this, or None."""
    if capability is None:
        return "needs CUDA"
    if capability < (7, 5):
        return f"needs compute capability 7.5, got {capability[0]}.{capability[1]}"
    if dtype not in _DTYPES:
        return f"takes bfloat16 and float16, got {dtype}"
    return _missing("int8_linear")


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """`kernels.int8_attention` for bfloat16 or float16. In 0.2.40 weights and values are int8 too; q and k are rotated in parts."""
    import comfy_kitchen

    found: torch.Tensor = comfy_kitchen.int8_attention(q, k, v)
    return found


def attention_refuses(capability: tuple[int, int] | None, dtype: torch.dtype, width: int) -> str | None:
    """Why `attend` cannot compute this, or None. Float32 would come back as bfloat16 has it."""
    if capability is None:
        return "needs CUDA"
    if capability < (8, 0):
        return f"needs compute capability 8.0, got {capability[0]}.{capability[1]}"
    if dtype not in _DTYPES:
        return f"takes bfloat16 and float16, got {dtype}"
    if width > _WIDEST_HEAD:
        return f"takes heads of at most {_WIDEST_HEAD} values, got {width}"
    return _missing()


@functools.lru_cache(maxsize=2)
def _missing(function: str | None = None) -> str | None:
    """Why comfy-kitchen's CUDA back end, or `function` in it, is not here, or None.

    Of a function that it lacks, its Triton back end would run another under the same name, which folds nothing.
    """
    if torch.version.hip is not None:
        return "comfy-kitchen's CUDA back end is for NVIDIA cards"
    try:
        import comfy_kitchen
    except Exception as error:  # noqa: BLE001 (a compiled package that may not fit this torch)
        return f"comfy-kitchen cannot be imported ({type(error).__name__}: {error})"[:200]
    cuda = comfy_kitchen.list_backends().get("cuda", {})
    if not cuda.get("available"):
        return f"comfy-kitchen has no CUDA back end here ({cuda.get('unavailable_reason')})"[:200]
    if function is None or function in cuda.get("capabilities", ()):
        return None
    return (
        f"comfy-kitchen's CUDA back end has no {function} here, for want of libcublasLt.so.13: install torch built for CUDA 13, "
        "or `pip install nvidia-cublas`"
    )
