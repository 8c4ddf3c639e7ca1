"""A copy of a checkpoint with outliers planted where the real model has them, and (but for roundings that are counted) the same function.

    python -m ideogram_q8.training.planted --out DIR

A small model trained for an hour may lack the outliers that make recipes differ. Those of Ideogram 4 sit mostly in the inputs of
`feed_forward.w2`, in about half of its blocks (arXiv 2606.12280 protects 17 Linears of 34 blocks, almost all of them w2). So in every
second block a few rows of w3 are multiplied by a large power of two and the same columns of w2 divided by it: smoothing backwards.
A few rows of v, into the columns of o, get a smaller one. Channels and powers are drawn from a fixed seed.

The FP8 format takes this well. A row's scale takes a power of two exactly. Dividing a column's codes by 2^p is exact down to e4m3's
smallest step, 2^-9: a code is off by 2^-10 at most, which after the activation's 2^p is 2^(p-10) of the row's scale amax / 448; the
source's own rounding of a code of 128 is off by up to 4. `plant` counts the codes that moved.

The result is declared: traits.json names it, and planted.json lists every channel.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, TransformerConfig
from ideogram_q8.numerics import smoothing
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes.folding import consumers
from ideogram_q8.training.export import WEIGHT_FILE, write_json, write_weights

DECLARATION = "planted.json"
FFN_POWERS, ATTENTION_POWERS = (4, 5, 6, 7), (2, 3)
FFN_SHARE, ATTENTION_SHARE = 128, 64
"""One channel in so many is planted."""


@dataclass(frozen=True)
class Plant:
    """At a fold point, channel -> p: the producer's rows times 2^p, the consumers' columns divided by 2^p."""

    fold: str
    powers: dict[int, int]

    def exponents(self, width: int) -> torch.Tensor:
        """p as int8 [width]."""
        found = torch.zeros(width, dtype=torch.int8)
        for channel, power in self.powers.items():
            found[channel] = power
        return found


def plan(config: TransformerConfig, seed: int = 0) -> tuple[Plant, ...]:
    """What is planted in one branch: every second block, from block 1 on; the same for the same arguments."""
    rng = random.Random(f"planted/{seed}")

    def draw(fold: str, width: int, share: int, powers: tuple[int, ...]) -> Plant:
        channels = sorted(rng.sample(range(width), max(1, width // share)))
        return Plant(fold, {channel: rng.choice(powers) for channel in channels})

    found = []
    for i in range(1, config.num_layers, 2):
        found.append(draw(f"layers.{i}.feed_forward.w3", config.intermediate_size, FFN_SHARE, FFN_POWERS))
        found.append(draw(f"layers.{i}.attention.v", config.hidden_size, ATTENTION_SHARE, ATTENTION_POWERS))
    return tuple(found)


def plant(tensors: dict[str, torch.Tensor], plants: tuple[Plant, ...]) -> int:
    """Plants into one branch's tensors as the official file stores them, in place; returns how many codes could not move exactly."""
    moved = 0
    for item in plants:
        (consumer,) = consumers(item.fold)
        codes = tensors[f"{consumer}.weight"]
        powers = item.exponents(codes.shape[1])
        divided = smoothing.scale_columns(codes.float(), -powers)
        tensors[f"{consumer}.weight"] = divided.to(codes.dtype)
        moved += int((tensors[f"{consumer}.weight"].float() != divided).sum())
        producer = item.fold.replace("attention.v", "attention.qkv")
        scale = tensors[f"{producer}.weight_scale"].clone()
        scale[-len(powers) :] = smoothing.scale_rows(scale[-len(powers) :], powers)
        tensors[f"{producer}.weight_scale"] = scale
    return moved


def write(out: Path, source: Path = WEIGHTS, seed: int = 0) -> tuple[str, ...]:
    """Writes the folder tree of `source`, an official FP8 folder, planted, into the new folder `out`; a line for each branch.

    Raises:
        RequestError: there is something at `out` already.
    """
    if out.exists():
        raise RequestError(f"{out} exists; name a new folder")
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("README.md", "measured.json"))
    declared, lines = {}, []
    for branch in BRANCHES:
        folder = COMPONENT_FOLDERS[branch]
        config = TransformerConfig.from_json(json.loads((source / folder / "config.json").read_text(encoding="utf-8")))
        plants = plan(config, seed)
        tensors = load_file(source / folder / WEIGHT_FILE)
        moved = plant(tensors, plants)
        write_weights(out / folder / WEIGHT_FILE, tensors)
        declared[branch] = [asdict(item) for item in plants]
        channels = sum(len(item.powers) for item in plants)
        lines.append(f"{branch}: {channels} channels at {len(plants)} fold points, {moved} codes rounded")
    write_json(out / DECLARATION, {"seed": seed, "planted": declared})
    traits = json.loads((out / "traits.json").read_text(encoding="utf-8"))
    write_json(out / "traits.json", traits | {"name": f"{traits['name']}, outliers planted"})
    return tuple(lines)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Write the pocket with planted outliers as a checkpoint folder.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for line in write(arguments.out, seed=arguments.seed):
        print(line)


if __name__ == "__main__":
    main()
