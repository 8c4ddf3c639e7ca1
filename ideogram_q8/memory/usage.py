"""What fits: bytes of weights from file headers, what the device has, and what the process really used.

The three stages of a picture (text, denoising, decoding) need different networks. `predict` says how much each takes and whether
the text encoder may stay beside the transformers. Estimates leave out the interpreter, the libraries and the allocator's slack.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8 import file_kinds
from ideogram_q8.errors import ArtifactError, ResourceError

_HALVES = ("BF16", "F16")


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


RESERVED = 600_000_000
"""Bytes of a card that are left to CUDA's libraries (their context, workspaces and code), and to a desktop: an assumption."""


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
        size = path.stat().st_size
        if path.suffix != ".safetensors":
            return size
        with file_kinds.open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ArtifactError(f"{path}: the header says {length} bytes, the file has {size}; copy the file again")
            header = json.loads(file.read(length))
        return sum(
            int((tensor["data_offsets"][1] - tensor["data_offsets"][0]) * (widened if tensor["dtype"] in _HALVES else 1))
            for name, tensor in header.items()
            if "data_offsets" in tensor and name.startswith((prefix, f"model.{prefix}"))
        )
    except (OSError, ValueError, struct.error, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable weight file ({error})") from error


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
            f"{device} has {available / 1e9:.1f} GB free, {purpose} needs about {needed / 1e9:.1f} GB: "
            "choose a smaller size or variant, or close other programs"
        )


def available_bytes(device: torch.device) -> int:
    """Memory that the device can still give, in bytes; what PyTorch holds in its CUDA cache counts as free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return _proc_fields(Path("/proc/meminfo")).get("MemAvailable", sys.maxsize)


def room(device: torch.device) -> int:
    """Bytes of a device that a plan may use: what is available, on a card less RESERVED."""
    return available_bytes(device) - (RESERVED if device.type == "cuda" else 0)


def host_bytes() -> tuple[int, int, int]:
    """The computer's memory in bytes: all of it, what is available, and what this process holds; zeros where there is no /proc."""
    system, own = _proc_fields(Path("/proc/meminfo")), _proc_fields(Path("/proc/self/status"))
    return system.get("MemTotal", 0), system.get("MemAvailable", 0), own.get("VmRSS", 0)


def reset_peak(device: torch.device) -> None:
    """Starts a new measurement for `peak_bytes`. On CPU this needs Linux; elsewhere the peak is the process's since its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # read-only or not Linux: documented above


def peak_bytes(device: torch.device) -> int:
    """Largest allocation on CUDA, largest resident size of the process on CPU, since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    fields = _proc_fields(Path("/proc/self/status"))
    if "VmHWM" in fields:
        return fields["VmHWM"]
    return _lifetime_peak()


def _lifetime_peak() -> int:
    """The process's peak since its start, from the POSIX call; 0 where there is none (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _proc_fields(path: Path) -> dict[str, int]:
    """`Name: 12 kB` lines as bytes; empty where the file does not exist."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines]
    return {p[0].rstrip(":"): int(p[1]) * 1024 for p in parts if len(p) == 3 and p[2] == "kB" and p[1].isdigit()}
