"""Bytes, times and shares as text: one module has every form, and no other writes a unit beside its own division."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ideogram_q8.formats import quantities
from ideogram_q8.formats.quantities import byte_size, byte_text, duration, gigabytes, megabytes, percent, seconds, short_time

PACKAGE = Path(quantities.__file__).parents[1]


@pytest.mark.parametrize(
    ("count", "text"), [(3_440_000, "3.4 MB"), (812_000_000, "812 MB"), (9_870_000_000, "9.87 GB"), (0, "0.0 MB")]
)
def test_byte_sizes(count: int, text: str) -> None:
    assert byte_size(count) == text


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12 s"), (12.34, "12.3 s"), (75.0, "1 min 15 s")])
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_other_forms() -> None:
    assert [byte_text(n) for n in (5, 1500, 2e6, 10.44e9)] == ["5 bytes", "1.50 kB", "2.00 MB", "10.44 GB"]
    assert [duration(value) for value in (5, 90, 3600, 11_100)] == ["5 s", "2 min", "1 h 00 min", "3 h 05 min"]
    assert [short_time(value) for value in (12.345, 0.0456, 0.000789)] == ["12.3 s", "45.6 ms", "789 us"]
    assert [gigabytes(23.456e9), gigabytes(1.5e9, "5.2f"), megabytes(1_234_567_890)] == ["23.5 GB", " 1.50 GB", "1,235 MB"]
    assert [percent(0.987), percent(0.987, ".1f")] == ["99 %", "98.7 %"]


INLINE = re.compile(r"/ 1e[69]:[^{}]*\} [GM]B")
SIGNED = {"bench/card/aims.py"}
"""Lists signed growths with one unit at their end."""


def test_no_other_module_divides_bytes_beside_their_unit() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if INLINE.search(path.read_text(encoding="utf-8"))
    }
    assert found == SIGNED
