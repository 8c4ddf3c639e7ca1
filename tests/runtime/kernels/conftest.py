"""Triton's interpreter made to compute `tl.fma` as a card does."""

from __future__ import annotations

import os

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fused_multiply_add_is_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter rounds the product as well, the machine code only the sum (fma.rn.f32, test_aot.py)."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    from triton.runtime import interpreter

    def fma(_: object, x: interpreter.TensorHandle, y: interpreter.TensorHandle, z: interpreter.TensorHandle) -> object:
        return interpreter.TensorHandle(rounded_once(x.data, y.data, z.data), z.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fma", fma)


def rounded_once(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x y + z of float32. In float64 the product is exact; what its sum loses (Knuth's two-sum) sets the last bit of an even sum."""
    product, added = x.astype(np.float64) * y, z.astype(np.float64)
    total = product + added
    part = total - product
    lost = (product - (total - part)) + (added - part)
    is_even = total.view(np.int64) % 2 == 0
    odd = np.where(is_even & np.isfinite(lost) & (lost != 0), np.nextafter(total, np.copysign(np.inf, lost)), total)
    return odd.astype(np.float32)
