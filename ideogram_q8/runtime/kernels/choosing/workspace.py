"""One piece of memory for weights that are expanded when they are used, shared by all layers of a device and dtype.

Its contents last until the next layer asks. Each thread has its own, on CUDA each stream too, since work on two streams overlaps. It
grows to the largest weight that asked and stays, so a second pass allocates nothing; a CUDA graph must be captured after a first pass.
"""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass, field

import torch

_Key = tuple[torch.device, torch.dtype, int]


@dataclass(eq=False)
class _Held:
    """What one thread holds; gone with the thread."""

    tensors: dict[_Key, torch.Tensor] = field(default_factory=dict)


class _Own(threading.local):
    def __init__(self) -> None:
        self.held = _Held()
        with _lock:
            _all.add(self.held)


_lock = threading.Lock()
_all: weakref.WeakSet[_Held] = weakref.WeakSet()
_own = _Own()


def take(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A contiguous tensor with undefined contents, valid until this thread takes the next of the same device and dtype."""
    key = (device, dtype, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0)
    size = math.prod(shape)
    held = _own.held.tensors.get(key)
    if held is None or held.numel() < size:
        _own.held.tensors.pop(key, None)
        del held
        with torch.inference_mode(False):  # born in inference mode, it could not be written outside
            held = _own.held.tensors[key] = torch.empty(size, dtype=dtype, device=device)
    return held[:size].view(shape)


def held_bytes() -> int:
    """What this thread holds."""
    return sum(tensor.nbytes for tensor in _own.held.tensors.values())


def release() -> None:
    """Gives all threads' memory back: who drops a model need not be the thread that painted with it.

    The next `take` allocates again; what a thread is using lasts until it is done. Not while a CUDA graph that uses it will be replayed.
    """
    with _lock:
        for held in _all:
            held.tensors.clear()
