"""One piece of memory for weights that are expanded when they are used, shared by all layers of a device and dtype.

Its contents last until the next layer asks. Each thread has its own, on CUDA each stream too, since work on two streams overlaps. It
grows to the largest weight that asked and stays, so a second pass allocates nothing; a CUDA graph must be captured after a first pass.
"""

from __future__ import annotations

import math
import threading

import torch

_Key = tuple[torch.device, torch.dtype, int]


class _Own(threading.local):
    def __init__(self) -> None:
        self.held: dict[_Key, torch.Tensor] = {}


_own = _Own()


def take(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A contiguous tensor with undefined contents, valid until this thread takes the next of the same device and dtype."""
    key = (device, dtype, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0)
    size = math.prod(shape)
    held = _own.held.get(key)
    if held is None or held.numel() < size:
        _own.held.pop(key, None)
        del held
        with torch.inference_mode(False):  # born in inference mode, it could not be written outside
            held = _own.held[key] = torch.empty(size, dtype=dtype, device=device)
    return held[:size].view(shape)


def held_bytes() -> int:
    """What this thread holds."""
    return sum(tensor.nbytes for tensor in _own.held.values())


def release() -> None:
    """Gives this thread's memory back; the next `take` allocates again. Not while a CUDA graph that uses it will be replayed."""
    _own.held.clear()
