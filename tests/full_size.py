"""A random checkpoint of Ideogram 4's full size in the official FP8 layout, for what only size can show: memory, rate, resuming.

    python -m tests.full_size --out FOLDER               # 34 layers, 18.6 GB
    python -m tests.full_size --out FOLDER --layers 1    # full width, 1.1 GB
    python -m tests.full_size --smoothed FILE            # instead: a recipe that folds random exponents at every fold point

Written as a stream by numpy alone, with the header that safetensors' own writer makes. The same bytes for the same seed; a layer's
weights do not depend on how many there are. Values are plausible: e4m3 codes of a normal distribution, row scales of weights with
variance 1 / K.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, IDEOGRAM4, TransformerConfig
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.numerics.smoothing import encode
from ideogram_q8.recipes import Recipe, Smoothing, choose
from ideogram_q8.recipes.folding import fold_points

FILE = "diffusion_pytorch_model.safetensors"
PEAK = 4.3
"""Largest of a row's weights in standard deviations: what a few thousand normal numbers have."""
_SIZES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}
_CHUNK = 1 << 22


class Entry(NamedTuple):
    """A stored tensor; `width` is the in_features of a scale's Linear."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    width: int = 0

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _SIZES[self.dtype]


def entries(config: Dimensions) -> list[Entry]:
    """The tensors of a branch's or a text encoder's file in the order of safetensors' writer: the widest type first, then by name."""
    whole = component(config)
    quantized = {f"{linear.name}.weight" for linear in whole.linears}
    found: list[Entry] = []
    for name, shape in whole.shapes.items():
        found.append(Entry(name, "F8_E4M3" if name in quantized else "BF16", shape))
        if name in quantized:
            found.append(Entry(f"{name}_scale", "F32", shape[:1], shape[1]))
    return sorted(found, key=lambda entry: (-_SIZES[entry.dtype], entry.name))


def header(config: Dimensions) -> bytes:
    """The bytes of the file before its data."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries(config):
        begin, end = end, end + entry.bytes
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def file_bytes(config: Dimensions) -> int:
    """Size of such a file."""
    return len(header(config)) + sum(entry.bytes for entry in entries(config))


def write(folder: Path, layers: int = IDEOGRAM4.num_layers, seed: int = 0, quiet: bool = True) -> Path:
    """Writes model_index.json and both transformers, without traits.json, into a new folder; returns it."""
    config = dataclasses.replace(IDEOGRAM4, num_layers=layers)
    folder.mkdir(parents=True)
    needed, free = 2 * file_bytes(config), shutil.disk_usage(folder).free
    assert free > needed, f"{folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    _write_json(folder / "model_index.json", {"_class_name": "Ideogram4Pipeline"})
    with tqdm(total=needed, unit="B", unit_scale=True, disable=quiet) as bar:
        for index, branch in enumerate(BRANCHES):
            part = folder / COMPONENT_FOLDERS[branch]
            part.mkdir()
            bar.set_description(part.name)
            _write_json(part / "config.json", config.to_json())
            weight_map = {entry.name: FILE for entry in entries(config)}
            _write_json(part / f"{FILE}.index.json", {"metadata": {}, "weight_map": weight_map})
            with (part / f"{FILE}.partial").open("wb") as file:
                bar.update(file.write(header(config)))
                for entry in entries(config):
                    for piece in _pieces(entry, [seed, index]):
                        file.write(memoryview(piece).cast("B"))
                        bar.update(piece.nbytes)
            (part / f"{FILE}.partial").rename(part / FILE)
    return folder


def smoothed(config: TransformerConfig, seed: int = 0) -> Recipe:
    """The naive INT8 recipe with exponents from -3 to 3 at every fold point: the work of a smoothed recipe, without statistics."""
    naive, generator = choose("int8", config), torch.Generator().manual_seed(seed)
    folds = tuple(
        Smoothing(fold, encode(torch.randint(-3, 4, (point.width,), dtype=torch.int8, generator=generator)))
        for fold, point in fold_points(config).items()
    )
    parts = {name: dataclasses.replace(part, smoothing=folds) for name, part in naive.parts.items()}
    return dataclasses.replace(naive, policy="smoothed", parts=parts)


def _pieces(entry: Entry, seed: list[int]) -> Iterator[npt.NDArray[np.generic]]:
    """The data of a tensor, in order."""
    dice = np.random.SFC64([*seed, zlib.crc32(entry.name.encode())])
    count = math.prod(entry.shape)
    if entry.dtype == "F8_E4M3":
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            yield np.take(_CODES, dice.random_raw(-(-size // 8)).view(np.uint8)[:size])
    elif entry.dtype == "F32":
        peaks = np.random.Generator(dice).lognormal(math.log(PEAK / math.sqrt(entry.width)), 0.2, count)
        yield (peaks / 448).astype(np.float32)
    else:
        centre, spread = (1.0, 0.1) if "norm" in entry.name else (0.0, 0.02)
        values = centre + spread * np.random.Generator(dice).standard_normal(count, dtype=np.float32)
        yield torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()


def _normal_codes() -> npt.NDArray[np.uint8]:
    """256 equally likely e4m3 codes of a normal distribution whose PEAK is 448."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 256) * 448 / PEAK for i in range(256)]
    return torch.tensor(quantiles).to(torch.float8_e4m3fn).view(torch.uint8).numpy()


_CODES = _normal_codes()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="a folder that does not exist yet")
    what.add_argument("--smoothed", type=Path, help="a recipe to write")
    parser.add_argument("--layers", type=int, default=IDEOGRAM4.num_layers, help="transformer blocks (34)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.smoothed is not None:
        config = dataclasses.replace(IDEOGRAM4, num_layers=arguments.layers)
        arguments.smoothed.write_text(smoothed(config, arguments.seed).to_json(), encoding="utf-8")
        return
    write(arguments.out, arguments.layers, arguments.seed, quiet=False)


if __name__ == "__main__":
    main()
