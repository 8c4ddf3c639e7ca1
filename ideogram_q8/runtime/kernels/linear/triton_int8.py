"""Launches the W8A8 product: integer sums with both scales, the bias and one rounding. Rows are quantized by `triton_rows`.

Tiles for compute capability 8.x come from machine code compiled for sm_86: no spilled register, at most 99 KiB of shared memory, the
fewest instructions beside each `IMMA`. Which of them is fastest on a card is for the card to say (`tuning`); until it was asked,
`tiles_for` counts how well the last wave of tiles fills the processors.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.linear.prologue import Prologue
from ideogram_q8.runtime.kernels.rows import triton_rows

_ALIGNED = 16
"""Codes that are read at once; in rows of other lengths each is read alone, and the sums no longer fit in registers."""
_LARGEST_OPERAND = 2**31 - 1
"""Elements that the 32-bit offsets of the product reach."""


@dataclass(frozen=True)
class Tiles:
    """Rows, columns and depth of the tile that one thread block computes, its warps, and the depth of its load pipeline."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8

    @property
    def constants(self) -> dict[str, int]:
        return {"BM": self.rows, "BN": self.columns, "BK": self.depth, "GROUP": self.group}

    @property
    def label(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth} w{self.warps} s{self.stages}"


AMPERE = (
    Tiles(128, 256, 64, warps=8, stages=3),
    Tiles(256, 128, 64, warps=8, stages=3),
    Tiles(128, 128, 128, warps=8, stages=3),
    Tiles(128, 128, 64, warps=4, stages=4),
    Tiles(64, 256, 64, warps=4, stages=3),
    Tiles(64, 128, 128, warps=4, stages=3),
)
"""For compute capability 8.x, largest first: the larger the tile, the less it reads for each product."""
HOPPER = (
    Tiles(128, 256, 128, warps=8, stages=3),
    Tiles(128, 128, 128, warps=8, stages=4),
    Tiles(64, 128, 128, warps=4, stages=4),
)
"""For compute capability 9 and later, which have more shared memory."""
CONFIGURATIONS: Mapping[int, tuple[Tiles, ...]] = {8: AMPERE, 9: HOPPER}
"""By major compute capability; later ones use the last."""
_WORTH_A_SMALLER_TILE = 1.05
"""A smaller tile must fill the processors better by this factor, which its extra reads cost."""


def configurations(major: int) -> tuple[Tiles, ...]:
    """Configurations for a major compute capability."""
    return CONFIGURATIONS[min(major, max(CONFIGURATIONS))]


@functools.lru_cache(maxsize=1024)
def tiles_for(major: int, processors: int, rows: int, outputs: int) -> Tiles:
    """The tiles whose waves do the least work on padding and idle processors, one tile a processor."""

    def work(tiles: Tiles) -> int:
        count = -(-rows // tiles.rows) * -(-outputs // tiles.columns)
        return -(-count // processors) * tiles.rows * tiles.columns

    best, *others = configurations(major)
    for tiles in others:
        if work(tiles) * _WORTH_A_SMALLER_TILE < work(best):
            best = tiles
    return best


def matmul(
    codes: torch.Tensor,
    row_scale: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """int8 [M, K] times int8 [N, K] transposed, times row_scale [M, 1], times scale [N, 1], plus bias [N], rounded once to `dtype`.

    Args:
        dtype: floating, or int32 for the sums themselves.
        tiles: by default what was measured on this device for this shape, else what `tiles_for` has.
    """
    from ideogram_q8.runtime.kernels.programs import w8a8

    (rows, inputs), outputs = codes.shape, weight.shape[0]
    chosen = tiles or _tiles_on(codes.device, rows, inputs, outputs)
    out = torch.empty(rows, outputs, dtype=dtype, device=codes.device)
    grid = (-(-rows // chosen.rows) * -(-outputs // chosen.columns),)
    w8a8.matmul[grid](
        codes.contiguous(),
        weight.contiguous(),
        out,
        row_scale,
        scale,
        scale if bias is None else bias,
        rows,
        outputs,
        inputs,
        EVEN_K=inputs % chosen.depth == 0,
        HAS_BIAS=bias is not None,
        **chosen.constants,
        num_warps=chosen.warps,
        num_stages=chosen.stages,
        enable_fp_fusion=False,
    )
    return out


def _tiles_on(device: torch.device, rows: int, inputs: int, outputs: int) -> Tiles:
    if device.type != "cuda":  # the interpreter
        return AMPERE[-1]
    properties = torch.cuda.get_device_properties(device)
    measured = table.tiles(device, inputs, outputs, rows)
    if measured is not None:
        found = [tiles for tiles in configurations(properties.major) if tiles.label == measured]
        if found:
            return found[0]
    return tiles_for(properties.major, properties.multi_processor_count, rows, outputs)


def linear(
    x: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    before: Prologue,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """`kernels.int8_linear` for float [M, ...]."""
    return matmul(*triton_rows.quantize(x, before), codes, scale, bias, x.dtype, tiles)


def refuses(capability: tuple[int, int] | None, rows: int, inputs: int, outputs: int) -> str | None:
    """Why `linear` cannot compute this, or None."""
    if capability is None:
        return "needs CUDA"
    if capability < (8, 0):
        return f"needs compute capability 8.0, got {capability[0]}.{capability[1]}"
    if inputs % _ALIGNED:
        return f"needs a multiple of {_ALIGNED} inputs, got {inputs}"
    if inputs > triton_rows.LARGEST_WIDTH:
        return f"takes at most {triton_rows.LARGEST_WIDTH} inputs, got {inputs}"
    if max(rows, outputs) * inputs > _LARGEST_OPERAND:
        return f"takes operands of at most {_LARGEST_OPERAND} codes, got {max(rows, outputs) * inputs}"
    return None
