"""Where the bytes of a weight file go, known before the first tensor is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorPlacement:
    """`header` begins the file; `offsets` are of each tensor's first byte in the file; `size` is that of the file in bytes.

    What no tensor covers behind the header is zero.
    """

    header: bytes
    offsets: Mapping[str, int]
    size: int
