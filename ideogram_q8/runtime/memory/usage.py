"""What fits: bytes of weights from file headers, what the device has, and what the process really used.

The three stages of a picture (text, denoising, decoding) need different networks. `predict` says how much each takes and whether
the text encoder may stay beside the transformers. Estimates leave out the interpreter, the libraries and the allocator's slack.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ideogram_q8.errors import ArtifactError, ResourceError, SourceError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.formats.safetensors_header import read_header
from ideogram_q8.machine import platforms as machine

_HALVES = ("BF16", "F16")
T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """Bytes of the networks when loaded; `transformers` counts both branches."""

    transformers: int
    text_encoder: int
    vae: int


@dataclass(frozen=True)
class Activations:
    """Bytes that each stage takes beside the networks (`budget`)."""

    text: int
    denoise: int
    decode: int


@dataclass(frozen=True)
class Placement:
    """Peak bytes of each stage, whether the text encoder stays loaded during the other two, and whether both branches run at once."""

    text_bytes: int
    denoise_bytes: int
    decode_bytes: int
    keep_text_encoder: bool
    overlap: bool = False

    @property
    def peak_bytes(self) -> int:
        return max(self.text_bytes, self.denoise_bytes, self.decode_bytes)


CARDS = {8: 8_330_000_000, 12: 12_600_000_000, 16: 16_800_000_000, 24: 25_300_000_000}
"""Bytes that a card of so many GiB gives to programs, by what torch's own messages of 3070s, 3060s, 4080s, 3090s and 4090s on Linux say
(7.76, 11.76, 15.70, and 23.48 to 23.69 GiB in all)."""
CONTEXT = 300_000_000
"""Bytes of a card that CUDA's context and the code of its libraries take before the first tensor: 0.25 to 0.30 GiB in such messages."""
RESERVED = 400_000_000
"""Bytes of a card that no plan and no picture counts on: the allocator's slack (0.2 GB of INT8's weights), workspaces of cuDNN, cuBLAS
and comfy-kitchen. An assumption; a desktop's own memory is missing from what a card has free already."""

HOST_RESERVED = 1_000_000_000
"""Bytes of main memory that stay unpinned, for the process itself and others: an assumption."""


def weight_bytes(files: Iterable[Path], prefix: str = "", dtype: torch.dtype | None = None) -> int:
    """Tensor data in `files`: exact for safetensors (from the header), the file's size for others.

    Args:
        prefix: of the names that count; "model." may stand before it.
        dtype: what 16-bit floats of safetensors become when they are loaded; None leaves them as they are.

    Raises:
        ArtifactError: a file is missing or shorter than its header.
    """
    widened = 1 if dtype is None else dtype.itemsize / 2
    return sum(_file_bytes(path, prefix, widened) for path in files)


def _file_bytes(path: Path, prefix: str, widened: float) -> int:
    try:
        if path.suffix != ".safetensors":
            return path.stat().st_size
        tensors = read_header(path).tensors.values()
    except (OSError, SourceError) as error:
        raise ArtifactError(f"{path}: not a readable weight file ({error})") from error
    found = (tensor for tensor in tensors if tensor.name.startswith((prefix, f"model.{prefix}")))
    return sum(int(tensor.nbytes * (widened if tensor.dtype in _HALVES else 1)) for tensor in found)


def module_bytes(*modules: torch.nn.Module, device: torch.device | None = None) -> int:
    """Bytes that the parameters and buffers of `modules` cover in memory, what several cover once; on one device, or wherever they are.

    Not those of their storages: of a file that is mapped, that would be all of it for every tensor that is read from it.
    """
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    here = (tensor for tensor in tensors if device is None or _same(tensor.device, device))
    found = end = 0
    for start, size in sorted((tensor.data_ptr(), tensor.nbytes) for tensor in here):
        found += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return found


def _same(found: torch.device, wanted: torch.device) -> bool:
    """A device without a number is all of its kind."""
    return found.type == wanted.type and wanted.index in (None, found.index)


def predict(weights: Weights, activations: Activations, available: int) -> Placement:
    """The placement for one picture.

    Args:
        available: bytes that the device can give to all of this together.
    """
    base = weights.transformers + weights.vae
    text = base + weights.text_encoder + activations.text
    denoise, decode = base + activations.denoise, base + activations.decode
    keep = max(denoise, decode) + weights.text_encoder <= available
    kept = weights.text_encoder if keep else 0
    return Placement(text, denoise + kept, decode + kept, keep)


def check(needed: int, available: int, purpose: str, device: torch.device) -> None:
    """Raises ResourceError if `purpose` needs more bytes than are available."""
    if needed > available:
        raise ResourceError(
            f"{device} has {gigabytes(available)} free, {purpose} needs about {gigabytes(needed)}: "
            "choose a smaller size or variant, or close other programs"
        )


def available_bytes(device: torch.device) -> int:
    """Memory that the device can still give, in bytes; what PyTorch holds in its CUDA cache counts as free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = machine.here.memory().available
    return sys.maxsize if found is None else found


def room(device: torch.device) -> int:
    """Bytes of a device that a plan or a picture may use: what is available, on a card less RESERVED."""
    return available_bytes(device) - (RESERVED if device.type == "cuda" else 0)


def room_of(card: int) -> int:
    """`room` of a card that no program uses yet, one of CARDS."""
    return CARDS[card] - CONTEXT - RESERVED


def pinnable_bytes() -> int:
    """Bytes of main memory that may be pinned for a card: what is available, less HOST_RESERVED; sys.maxsize where that is not known.

    On Windows, and in WSL2, whose driver is that of Windows, at most half of the computer's memory can be pinned.
    """
    total, free, _ = host_bytes()
    if not total:
        return sys.maxsize
    left = max(0, free - HOST_RESERVED)
    return min(left, total // 2) if machine.here.pins_half else left


def keep_off_main_memory(device: torch.device) -> None:
    """On Windows, makes torch raise OutOfMemoryError where a card is full.

    NVIDIA's driver for Windows goes on in main memory otherwise ("CUDA - Sysmem Fallback Policy", on by default), and a picture takes 5
    to 20 times as long. torch is held to what the card has free now, and what torch holds of the card already.
    """
    if not machine.here.spills or device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    index = torch.cuda.current_device() if device.index is None else device.index  # torch takes no card without a number here
    torch.cuda.set_per_process_memory_fraction(min(1.0, (free + torch.cuda.memory_reserved(device)) / total), index)


def host_bytes() -> tuple[int, int, int]:
    """The computer's memory in bytes: all of it, what is available, and what this process holds; zeros for what is not told."""
    found = machine.here.memory()
    return found.total or 0, found.available or 0, found.resident or 0


def reset_peak(device: torch.device) -> None:
    """Starts a new measurement for `peak_bytes`. On CPU this needs Linux; elsewhere the peak is the process's since its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    machine.here.reset_peak()


def peak_bytes(device: torch.device) -> int:
    """Largest allocation on CUDA, largest resident size of the process on CPU, since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return machine.here.peak_resident() or 0


@dataclass(frozen=True)
class Live:
    """Bytes beyond what was there before: the most that were alive at once, and those that still are at the end."""

    most: int
    kept: int


def watch_live(work: Callable[[], T]) -> tuple[T, Live]:
    """Runs `work` and counts what torch's own CPU allocator has given out: exact, and on one thread the same in every run.

    Returns:
        What `work` returns, and the tensors alive while it ran. Memory that other libraries take is not seen.
    """
    from torch.profiler import ProfilerActivity, profile  # only where it counts: the app imports torch in a thread

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler prints that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        value = work()
    assert found.profiler is not None and found.profiler.kineto_results is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return value, Live(most, live)
