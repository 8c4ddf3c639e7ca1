"""How work is cut: tiles of a weight that is expanded on a CPU, and tiles of a product on a GPU."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.runtime.kernels.linear.tiles import PART, TILE, linear, rows_of_a_tile
from ideogram_q8.runtime.kernels.linear.triton_int8 import AMPERE, CONFIGURATIONS, HOPPER, tiles_for


@pytest.mark.parametrize("rows", [1, 512, 4096])
@pytest.mark.parametrize(("outputs", "inputs"), [(4608, 4608), (24576, 4608), (4608, 12288), (7, 64), (100, 1 << 24), (0, 0)])
def test_tiles_of_a_weight_are_even_and_bounded(rows: int, outputs: int, inputs: int) -> None:
    step = rows_of_a_tile(rows, outputs, inputs)
    assert step % 64 == 0 and step > 0
    assert step * inputs <= max(TILE, rows * outputs // 2) + 64 * inputs
    if outputs:
        assert outputs % step == 0 or outputs % step > step / 3 or outputs < 2 * step


def test_elsewhere_a_block_is_expanded_whole_and_the_text_projection_is_not() -> None:
    """On the meta device, which is no CPU: how much of a weight each product asks for."""
    for outputs, inputs, parts in ((24576, 4608, 1), (4608, 53248, 2), (4608, 12288, 1), (7, 64, 1)):
        asked: list[tuple[int, int]] = []
        x = torch.empty(3, inputs, device="meta")
        y = linear(x, outputs, lambda start, stop, out, asked=asked: asked.append((start, stop)))  # type: ignore[misc]
        assert y.shape == (3, outputs) and len(asked) == parts
        assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])] and asked[-1][1] == outputs
        assert all((stop - start) * inputs <= PART for start, stop in asked)


@pytest.mark.parametrize(
    ("rows", "outputs", "expected"),
    [
        (4096, 13824, (128, 256)),  # q, k and v of 4096 tokens: 1728 tiles in 22 waves of 82
        (4096, 4608, (128, 128)),  # 576 large tiles would leave most of an eighth wave idle
        (64, 4608, (64, 128)),  # one wave in any case: the smallest keeps the most processors busy
    ],
)
def test_tiles_of_a_product_fill_a_3090(rows: int, outputs: int, expected: tuple[int, int]) -> None:
    tiles = tiles_for(8, 82, rows, outputs)
    assert (tiles.rows, tiles.columns) == expected


def test_later_cards_use_the_latest_table() -> None:
    assert tiles_for(8, 82, 4096, 13824) in AMPERE
    assert tiles_for(9, 132, 4096, 13824) in HOPPER
    assert tiles_for(12, 170, 4096, 13824) in CONFIGURATIONS[max(CONFIGURATIONS)]
