"""Which kernel torch takes for attention in the activations' dtype on a card, and what it costs where that is not flash attention.

torch tries flash attention, then memory-efficient attention, then plain products (`fused_sdp_choice_cuda`, aten/src/ATen/native/
transformers/cuda/sdp_utils.cpp); on Hopper and Blackwell it may take cuDNN's instead of the first, which is as fast. Flash attention
takes float16 and bfloat16, heads of at most 256 values and compute capability 8.0 or later, and is not built with Microsoft's compiler
(CMakeLists.txt: USE_FLASH_ATTENTION needs NOT MSVC), so in no build for Windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.platforms import System
from ideogram_q8.runtime.kernels.choosing.choice import said

FLASH, EFFICIENT = "flash attention", "memory-efficient attention"
COST = (
    "of heads of 256 values it keeps sums in global memory and reaches about half the rate (56 to 63 of 119 TFLOPS on an L20, "
    "github.com/Dao-AILab/flash-attention issue 1483): computed for an RTX 3090, 0.25 s more a step of 1024x1024; `--attention int8` "
    "does without it"
)
_LARGEST_HEAD = 256


@dataclass(frozen=True)
class Sdpa:
    """The kernel that torch takes; why it is not flash attention, None where it is; and what that costs."""

    runs: str
    reason: str | None = None
    cost: str | None = None

    @property
    def refused(self) -> tuple[tuple[str, str], ...]:
        """Flash attention with the reason and the cost, as `Choice.refused`."""
        return () if self.reason is None else ((FLASH, "; ".join(filter(None, (self.reason, self.cost)))),)

    def __str__(self) -> str:
        return said(self.runs, self.refused)


def chosen(capability: tuple[int, int] | None, system: System, built_with_flash: bool, dtype: torch.dtype, width: int) -> Sdpa:
    """What torch takes for heads of `width` values without a mask.

    Args:
        capability: CUDA's compute capability, None on a CPU.
        system: the operating system, whose builds of torch may lack flash attention.
        built_with_flash: as torch.backends.cuda.is_flash_attention_available.
    """
    if capability is None:
        return Sdpa("torch's attention for CPUs")
    reason = _flash_refuses(capability, system, built_with_flash, dtype, width)
    if reason is None:
        return Sdpa(FLASH)
    return Sdpa(EFFICIENT, reason, COST if width > 128 and dtype != torch.float32 else None)


def _flash_refuses(
    capability: tuple[int, int], system: System, built_with_flash: bool, dtype: torch.dtype, width: int
) -> str | None:
    if not system.has_flash_attention:
        return f"torch is built without it for {system.name}"
    if not built_with_flash:
        return "this torch is built without it"
    if capability < (8, 0):
        return f"needs compute capability 8.0, got {capability[0]}.{capability[1]}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"takes bfloat16 and float16, got {dtype}"
    if width > _LARGEST_HEAD:
        return f"takes heads of at most {_LARGEST_HEAD} values, got {width}"
    return None


def chosen_on(device: torch.device, dtype: torch.dtype, width: int) -> Sdpa:
    """`chosen` on a device of this computer, by this build of torch."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return chosen(capability, machine.here, torch.backends.cuda.is_flash_attention_available(), dtype, width)
