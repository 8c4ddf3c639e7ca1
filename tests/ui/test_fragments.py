"""The HTML pieces: foreign text is escaped, numbers read well."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.generation import Request
from ideogram_q8.ui import fragments
from ideogram_q8.ui.studio import Building, Picture
from ideogram_q8.variants import Variant

FP8 = Variant("fp8", "FP8", "the original", "pocket", 5_600_000)
Q4_K = Variant("q4_k", "Q4_K", "GGUF", None, 3_400_000)


def picture(**changes: object) -> Picture:
    values: dict[str, object] = {
        "variant": "fp8",
        "request": Request("{}", 7, "turbo-12", 128, 96),
        "path": Path("x.png"),
        "metadata": {},
        "seconds_per_step": 0.123,
        "total_seconds": 61.5,
        "peak_bytes": 812_000_000,
    }
    return Picture(**(values | changes))  # type: ignore[arg-type]


def test_foreign_text_is_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    pieces = [
        fragments.panel("failed", hostile, hostile, notes=[hostile]),
        fragments.progress(Building("int8", 0.5), hostile),
        fragments.finished(picture(), hostile),
        fragments.sides(hostile, hostile),
        fragments.cancelled(hostile),
    ]
    assert all("<img" not in piece and "&lt;img" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("count", "text"), [(3_440_000, "3.4 MB"), (812_000_000, "812 MB"), (9_870_000_000, "9.87 GB"), (0, "0.0 MB")]
)
def test_byte_sizes(count: int, text: str) -> None:
    assert fragments.byte_size(count) == text


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12 s"), (12.34, "12.3 s"), (75.0, "1 min 15 s")])
def test_seconds(value: float, text: str) -> None:
    assert fragments.seconds(value) == text


def test_a_card_says_whether_the_variant_is_built() -> None:
    assert fragments.card(FP8) == "FP8\nthe original\n5.6 MB"
    assert fragments.card(Q4_K) == "Q4_K\nGGUF\n≈ 3.4 MB · not built yet"


def test_identical_pictures_have_infinite_psnr() -> None:
    table = fragments.comparison(picture(), picture(), (FP8, FP8), float("inf"), 1.0)
    assert "∞ (identical)" in table and "1.0000" in table


def test_the_table_names_both_sides() -> None:
    table = fragments.comparison(picture(), picture(seconds_per_step=0.5), (FP8, Q4_K), 29.318, 0.59)
    assert "A · FP8" in table and "B · Q4_K" in table
    assert "<td>0.12 s</td><td>0.50 s</td>" in table and "29.32 dB" in table and "0.5900" in table
