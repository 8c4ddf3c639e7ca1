"""What fits: bytes of weights from file headers, bytes of activations from shapes, and what the process really used.

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
from torch import nn

from ideogram_q8.architecture import MAX_TEXT_TOKENS, SIDE_MULTIPLE, TransformerConfig
from ideogram_q8.errors import ArtifactError, ResourceError


@dataclass(frozen=True)
class Weights:
    """Bytes of the networks when loaded; `transformers` counts both branches."""

    transformers: int
    text_encoder: int
    vae: int


@dataclass(frozen=True)
class Placement:
    """Peak bytes of each stage, and whether the text encoder stays loaded during the other two."""

    text_bytes: int
    denoise_bytes: int
    decode_bytes: int
    keep_text_encoder: bool

    @property
    def peak_bytes(self) -> int:
        return max(self.text_bytes, self.denoise_bytes, self.decode_bytes)


def weight_bytes(files: Iterable[Path], prefix: str = "") -> int:
    """Tensor data in `files`, of names with a prefix: exact for safetensors (from the header), the file's size for others.

    Raises:
        ArtifactError: a file is missing or shorter than its header.
    """
    return sum(_file_bytes(path, prefix) for path in files)


def _file_bytes(path: Path, prefix: str) -> int:
    try:
        size = path.stat().st_size
        if path.suffix != ".safetensors":
            return size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ArtifactError(f"{path}: the header says {length} bytes, the file has {size}; copy the file again")
            header = json.loads(file.read(length))
        return sum(
            tensor["data_offsets"][1] - tensor["data_offsets"][0]
            for name, tensor in header.items()
            if "data_offsets" in tensor and name.startswith(prefix)
        )
    except (OSError, ValueError, struct.error, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable weight file ({error})") from error


def module_bytes(*modules: nn.Module) -> int:
    """Bytes that the parameters and buffers of `modules` really hold, counting shared memory once."""
    storages = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def denoise_activation_bytes(config: TransformerConfig, width: int, height: int, text_tokens: int, dtype: torch.dtype) -> int:
    """Largest sum of tensors alive at once in one transformer, for one picture.

    The feed-forward half is the larger one: residual stream, normalised input, gate and up (one more while they are multiplied),
    beside the widest weight expanded to `dtype` through float32, or the int32 and float32 products of an INT8 layer.
    """
    tokens = text_tokens + width * height // SIDE_MULTIPLE**2
    size = dtype.itemsize
    streams = tokens * (4 * config.hidden_size + 3 * config.intermediate_size) * size
    rotary = 2 * tokens * config.attention_head_dim * size
    expanded = config.hidden_size * config.intermediate_size * (3 * 4 + size)
    products = tokens * config.intermediate_size * (4 + 4)
    return streams + rotary + max(expanded, products)


def decode_activation_bytes(channels: int, width: int, height: int) -> int:
    """Largest sum of tensors alive at once in the VAE's decoder: three float32 maps of `channels` at full size."""
    return 3 * 4 * width * height * channels


def predict(
    weights: Weights, config: TransformerConfig, vae_channels: int, size: tuple[int, int], dtype: torch.dtype, available: int
) -> Placement:
    """The placement for one picture with the longest caption.

    Args:
        vae_channels: channels of the decoder's widest full-size layer.
        size: width and height in pixels.
        available: bytes that the device can give to all of this together.
    """
    base = weights.transformers + weights.vae
    denoise = base + denoise_activation_bytes(config, *size, MAX_TEXT_TOKENS, dtype)
    decode = base + decode_activation_bytes(vae_channels, *size)
    text = base + weights.text_encoder + 2 * 4 * MAX_TEXT_TOKENS * config.llm_features_dim
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
