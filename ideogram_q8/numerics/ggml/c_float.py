"""C's float arithmetic as ggml's quantizers use it, the same on every device: each function rounds where C rounds, and nowhere else.

Values lie transposed, [values of a block, blocks]: a sum over a block is then a sum of rows, in order.
"""

from __future__ import annotations

import numpy as np
import torch

EPSILON = 1e-15
"""ggml's GROUP_MAX_EPS: a block whose largest absolute value is smaller counts as zero."""
_MAGIC = 12582912.0  # 1.5 * 2**23


def columns(rows: torch.Tensor, size: int) -> torch.Tensor:
    """[R, K] -> [size, R * K / size]: each column a run of `size` values."""
    return rows.reshape(-1, size).T.contiguous()


def importance_columns(importance: torch.Tensor, size: int, count: int) -> torch.Tensor:
    """[K] -> [size, count]: the importance of each value of `columns`."""
    return columns(importance, size).repeat(1, count * size // len(importance))


def ordered_sum(rows: torch.Tensor) -> torch.Tensor:
    """[m, n] contiguous -> [n], added from the first row to the last.

    numpy documents that a reduction along another than the fast axis is plain addition; torch.sum promises no order.
    """
    if rows.device.type != "cpu":
        total = rows[0].clone()
        for row in rows[1:]:
            total += row
        return total
    array = rows.numpy()
    if array.shape[1] == 1:  # numpy would see one fast axis and add pairwise
        return torch.from_numpy(np.add.accumulate(array, axis=0)[-1])
    return torch.from_numpy(np.add.reduce(array, axis=0))


def divide(numerator: torch.Tensor | float, divisor: torch.Tensor | float) -> torch.Tensor:
    """Rounded once, one of the two a tensor: with a number torch multiplies by a reciprocal, rounded before."""
    if isinstance(divisor, float):
        assert isinstance(numerator, torch.Tensor)
        return numerator / torch.full_like(numerator, divisor)
    return (torch.full_like(divisor, numerator) if isinstance(numerator, float) else numerator) / divisor


def inverse_or_zero(values: torch.Tensor) -> torch.Tensor:
    """C's `d ? 1 / d : 0`."""
    return torch.where(values == 0, torch.zeros_like(values), divide(1.0, values))


def square_root(values: torch.Tensor) -> torch.Tensor:
    """Correctly rounded; torch's float32 square root is off by a unit in the last place on some CPUs."""
    return values.double().sqrt().float()


def nearest(values: torch.Tensor) -> torch.Tensor:
    """ggml's `nearest_int`: ties to even up to 4194303, beyond that and for infinities what its bit trick yields; NaN gives 0."""
    low, high = torch.aminmax(values) if values.numel() else (values.new_zeros(()), values.new_zeros(()))
    if float(low) >= -4194303 and float(high) <= 4194303:  # false with NaN
        return values.round()
    bits = (values + _MAGIC).view(torch.int32)
    rounded = ((bits & 0x007FFFFF) - 0x00400000).to(torch.float32)
    return torch.where(values.isnan(), torch.zeros_like(rounded), rounded)


def nearest_(values: torch.Tensor, low: int, high: int, *, tame: bool) -> torch.Tensor:
    """`nearest` clamped to low..high, in place where the caller knows that all values are `tame`, at most 4194303 in size."""
    return values.round_().clamp_(low, high) if tame else nearest(values).clamp_(low, high)


def truncate(values: torch.Tensor, largest: int) -> torch.Tensor:
    """C's cast of numbers not below 0 to a small integer, at most `largest`, as uint8; NaN and infinities give 0, as on x86."""
    return values.nan_to_num_(0.0, 0.0, 0.0).clamp_max_(largest).to(torch.uint8)


def least(values: torch.Tensor) -> torch.Tensor:
    """[m, n] -> [n]: the smallest of each column; among zeros of both signs the first."""
    low = values.amin(0)
    first_zero = (values == 0).to(torch.uint8).argmax(0, keepdim=True)
    return torch.where(low == 0, values.gather(0, first_zero)[0], low)


def signed_peak(values: torch.Tensor) -> torch.Tensor:
    """[m, n] -> [n]: the value of largest size in each column, the first of several; 0.0 where all are zero."""
    peak = values.gather(0, values.abs().argmax(0, keepdim=True))[0]
    return torch.where(peak == 0, torch.zeros_like(peak), peak)


def half_bytes(values: torch.Tensor) -> torch.Tensor:
    """float32 [n] -> float16 as uint8 [n, 2]."""
    return values.half().view(torch.uint8).reshape(-1, 2)


def half_values(data: torch.Tensor) -> torch.Tensor:
    """The inverse: uint8 [n, 2] -> float32 [n, 1]."""
    return data.contiguous().view(torch.float16).float()
