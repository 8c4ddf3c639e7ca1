"""A measurement carried over to another card: exact where everything is known, linear in what was reached, and refused from a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ideogram_q8.bench import tables
from ideogram_q8.bench.cards import CARDS, Card
from ideogram_q8.bench.machine import Peak, Peaks
from ideogram_q8.bench.projection import REST, project
from ideogram_q8.bench.results import StepPart
from ideogram_q8.bench.timing import Timing
from ideogram_q8.errors import RequestError
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.runtime.kernels.choosing import traffic
from tests.bench import example

TARGET = Card("Made up", "Made up", float_rate=100e12, int8_rate=400e12, bytes_rate=1000e9, half_rate=100e12)
PEAKS = Peaks("bfloat16", Peak(200e12, "torch.mm"), Peak(800e12, "Triton"), 2000e9)
"""Of a card that is in no table: twice the target in everything."""


def step(seconds: float = 0.01, parts: tuple[StepPart, ...] = example.PARTS):
    """A result with the one row."""
    result = example.denoise(example.OTHER_CARD, PEAKS)
    return replace(result, rows=(example.denoise_row("int8", seconds, parts),))


def test_a_card_half_as_fast_in_everything_takes_twice_as_long():
    for row in project(example.denoise(example.OTHER_CARD, PEAKS), TARGET).rows:
        assert row.projected == pytest.approx(2 * row.measured)


def test_what_lies_between_the_products_is_counted():
    """At 1024x1024 with 512 text tokens: 0.90 GB a conditional block where quantizers fold what comes before, else 1.52 GB."""
    assert traffic.of_a_block("Triton", 0, IDEOGRAM4, 4608) == traffic.of_a_block("Triton", 256, IDEOGRAM4, 4608)
    folded, apart = (traffic.of_a_block(backend, 0, IDEOGRAM4, 4608) for backend in ("Triton", "comfy-kitchen"))
    assert (round(folded.moved / 1e9, 2), folded.launches) == (0.90, 8)
    assert (round(apart.moved / 1e9, 2), apart.launches) == (1.52, 12)
    assert traffic.of_a_block("comfy-kitchen", 256, IDEOGRAM4, 4608) == folded
    assert traffic.of_a_block("torch._int_mm", 0, IDEOGRAM4, 4608) is None
    found = {each.name: each for each in project(step(), CARDS["rtx-3090"]).passes}
    assert list(found) == ["comfy-kitchen", "comfy-kitchen, rotated", "Triton", "Triton, rotated"]
    assert found["Triton"].moved < 0.65 * found["comfy-kitchen"].moved
    assert found["Triton"].launches == 2 * 34 * 8
    shown = tables.projection_table(project(step(), CARDS["rtx-3090"]))
    assert "| comfy-kitchen " in shown and "read and written" in shown


def test_each_kind_of_work_is_carried_by_its_own_rate():
    target = Card("Uneven", "Uneven", float_rate=50e12, int8_rate=800e12, bytes_rate=500e9, half_rate=50e12)
    (row,) = project(step(), target).rows
    shares = {share.kind: share for share in row.shares}
    assert shares["attention.qkv"].projected == pytest.approx(0.004)  # int8 is as fast there
    assert shares["attention"].projected == pytest.approx(4 * 0.002)
    assert shares[REST].projected == pytest.approx(4 * 0.004)
    assert row.projected == pytest.approx(0.004 + 0.008 + 0.016)
    assert row.floor == pytest.approx(4e12 / 800e12 + 1e12 / 50e12)


def test_efficiency_is_the_share_of_the_measured_peak():
    (row,) = project(step(), TARGET).rows
    assert [share.efficiency for share in row.shares] == [
        pytest.approx(4e12 / 0.004 / 800e12),
        pytest.approx(1e12 / 0.002 / 200e12),
        None,
    ]


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0])
def test_what_reaches_less_of_its_peak_takes_longer_in_proportion(factor):
    slower = tuple(replace(part, seconds=part.seconds / factor) for part in example.PARTS)
    (whole,), (changed,) = (
        project(step(sum(p.seconds for p in parts), parts), TARGET).rows for parts in (example.PARTS, slower)
    )
    assert changed.projected == pytest.approx(whole.projected / factor)
    assert changed.floor == whole.floor


def test_a_known_card_is_measured_against_its_public_rates():
    """Then the peak that was measured does not matter: it is a detour."""
    seconds = [
        project(example.denoise(example.CARD, replace(PEAKS, int8=Peak(rate, ""))), CARDS["rtx-3090"]).rows[1].projected
        for rate in (700e12, 1400e12)
    ]
    assert seconds[0] == pytest.approx(seconds[1])
    h100, card = CARDS["h100"], CARDS["rtx-3090"]
    expected = 0.004 * h100.int8_rate / card.int8_rate + 0.002 * h100.float_rate / card.float_rate
    assert seconds[0] == pytest.approx(expected + 0.004 * h100.bytes_rate / card.bytes_rate)


def test_attention_with_int8_scores_is_half_int8_and_half_float16():
    """On a GeForce with float16 sums at twice the rate of bfloat16's."""
    parts = (replace(example.PARTS[1], arithmetic="int8 scores"),)
    (row,) = project(step(0.002, parts), CARDS["rtx-3090"]).rows
    assert row.floor == pytest.approx(0.5e12 / 284e12 + 0.5e12 / 142e12)
    peak = 2 / (1 / 800e12 + 1 / 200e12)
    assert row.shares[0].efficiency == pytest.approx(1e12 / 0.002 / peak)
    assert row.projected == pytest.approx(row.floor / row.shares[0].efficiency)
    whole_int8 = (replace(parts[0], arithmetic="int8"),)
    assert project(step(0.002, whole_int8), CARDS["rtx-3090"]).rows[0].floor == pytest.approx(1e12 / 284e12)
    assert all(card.half_rate >= card.float_rate for card in CARDS.values())


def test_a_card_gives_itself_back():
    for row in project(example.denoise(), CARDS["h100"]).rows:
        assert row.projected == pytest.approx(row.measured)


def test_parts_that_fused_kernels_hide_are_shortened_to_the_step():
    (row,) = project(step(seconds=0.003), TARGET).rows
    assert sum(share.measured for share in row.shares) == pytest.approx(0.003)
    assert row.projected == pytest.approx(0.006)


def test_products_are_carried_over_one_by_one():
    found = project(example.linear(), CARDS["h100"])
    assert [row.projected for row in found.rows] == [pytest.approx(4e-4), pytest.approx(2.5e-4)]
    assert found.picture_steps == 0 and "Triton" in found.rows[1].name


def test_assumptions_name_both_cards_figures():
    text = " ".join(project(example.denoise(), CARDS["rtx-3090"]).assumptions)
    for word in ("71 TFLOPS", "284 TOPS", "936 GB/s", "H100 SXM"):
        assert word in text
    assert "optimistic" in " ".join(project(step(), TARGET).assumptions)


def test_a_cpu_says_that_it_cannot_be_carried_over():
    with pytest.raises(RequestError, match=r"measured on a CPU \(A processor\).*nothing can be carried over to the RTX 3090"):
        project(example.denoise(example.CPU), CARDS["rtx-3090"])


def test_loading_is_not_carried_over():
    with pytest.raises(RequestError, match="loading depends on disk and bus"):
        project(replace(example.load(), machine=example.CARD), CARDS["rtx-3090"])


def test_a_part_whose_peak_is_missing_is_refused():
    with pytest.raises(RequestError, match=r"the int8 peak was not measured \(no such product\)"):
        project(example.denoise(example.OTHER_CARD, replace(PEAKS, int8=Peak(None, "no such product"))), TARGET)


def test_timing_of_samples():
    assert Timing.of([3.0, 1.0, 2.0]) == Timing(2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
