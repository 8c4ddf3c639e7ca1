"""NF4, the 4-bit NormalFloat of QLoRA (Dettmers et al., arXiv 2305.14314, appendix E), as bitsandbytes stores it.

Two codes a byte, the first in the high half. A code is an index into 16 levels in [-1, 1]; every block of consecutive elements
of the flattened tensor has one float32 scale, the largest magnitude in it (bitsandbytes 0.50, `functional.py`: QuantState,
quantize_4bit, get_4bit_type).
"""

from __future__ import annotations

import functools

import torch

LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Appendix E of the paper."""


BLOCK = 64
"""Elements that share a scale in the official NF4 files."""


def quantize(values: torch.Tensor, block: int = BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """Float [n], n a multiple of `block` -> (codes uint8 [n / 2], scales float32 [n / block]): the nearest level, the lower of two.

    A block of zeros has scale 0 and the code of 0.
    """
    blocks = values.float().view(-1, block)
    absmax = blocks.abs().amax(1)
    shares = blocks / torch.where(absmax == 0, torch.ones_like(absmax), absmax)[:, None]
    levels = torch.tensor(LEVELS, device=values.device)
    codes = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], absmax


def dequantize(packed: torch.Tensor, absmax: torch.Tensor, block: int) -> torch.Tensor:
    """uint8 [n / 2], float32 [ceil(n / block)] -> bfloat16 [n].

    The product of level and scale in float32, rounded once: bitsandbytes' own result wherever the stored `dtype` is bfloat16.

    Args:
        block: elements that share a scale; even.
    """
    values = _pairs(packed.device).index_select(0, packed.flatten().int()).flatten()
    scales = absmax.repeat_interleave(block)[: values.numel()]
    return (values * scales).to(torch.bfloat16)


@functools.lru_cache(maxsize=8)
def _pairs(device: torch.device) -> torch.Tensor:
    """float32 [256, 2]: the levels of each byte's two codes. Kept, for bringing them to a GPU waits for all that runs there.

    Made on the CPU: the copy has arrived when it returns, so that every stream may read it.
    """
    levels, codes = torch.tensor(LEVELS), torch.arange(256)
    return torch.stack([levels[codes >> 4], levels[codes & 15]], 1).to(device)
