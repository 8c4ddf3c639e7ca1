"""Bytes, seconds and shares as text. Decimal units, as file managers and the Hub count: a GB is 10^9 bytes."""

from __future__ import annotations


def gigabytes(count: float, spec: str = ".1f") -> str:
    """Formats bytes as '23.5 GB'; `spec` is Python's format of the number."""
    return f"{count / 1e9:{spec}} GB"


def megabytes(count: float, spec: str = ",.0f") -> str:
    """Formats bytes as '1,235 MB'; `spec` is Python's format of the number."""
    return f"{count / 1e6:{spec}} MB"


def byte_size(count: int) -> str:
    """Formats bytes in MB below one GB, with as many digits as a page has room for: '12.3 MB', '456 MB', '1.23 GB'."""
    if count < 1e9:
        return megabytes(count, ".1f" if count < 1e8 else ".0f")
    return gigabytes(count, ".2f")


def byte_text(count: float) -> str:
    """Formats bytes of any number in their largest unit, as the Hub shows sizes: 10_440_000_000 -> '10.44 GB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} bytes"


def seconds(value: float, digits: int = 2) -> str:
    """Formats a time with `digits` decimals below ten seconds, one below a minute: '1.23 s', '12.3 s', '2 min 5 s'."""
    if value < 60:
        return f"{value:.{digits if value < 10 else 1}f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def short_time(value: float) -> str:
    """Formats a measured time in s, ms or us, three digits that count: '1.23 s', '45.6 ms', '789 us'."""
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"


def duration(value: float) -> str:
    """Formats a wait in whole units: '48 s', '12 min', '3 h 05 min'."""
    if value < 60:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def percent(share: float, spec: str = ".0f") -> str:
    """Formats a share of one as '98 %'; `spec` is Python's format of the number."""
    return f"{100 * share:{spec}} %"
