"""The searches of `searches` again, compiled by numba: the same numbers several times faster, on a CPU.

numba neither reorders nor contracts float32 arithmetic unless told to (`fastmath`), so these loops round where ggml's do. Blocks
are columns, as everywhere, and a few of them go through a search side by side, so that the compiler can use vector instructions.

A search gives up, and torch does it all, where a product is beyond what rounding by 1.5 * 2**23 is exact for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch

LANES = 64
_MAGIC, _LARGEST = np.float32(12582912.0), np.float32(4194303.0)
_ZERO, _ONE, _EPSILON = np.float32(0), np.float32(1), np.float32(1e-15)
_RATIO = np.float32(1 << 21)


def available(x: torch.Tensor) -> bool:
    """Whether `x` can be searched here."""
    return x.device.type == "cpu"


def improve_affine(
    x: torch.Tensor, weights: torch.Tensor, top: int, tries: Sequence[float], fixed: torch.Tensor, state: torch.Tensor
) -> bool:
    """The tries of `searches.fit_affine`; False where it gave up, with any state.

    Args:
        fixed: float32 [4, n]: span, high, sum of weights, sum of weights * x.
        state: float32 [5, n], improved in place: error, scale, minimum, best inverse, the minimum that it was tried from.
    """
    numerators = np.array(tries, dtype=np.float32)
    return bool(_improve_affine(x.numpy(), weights.numpy(), np.float32(top), numerators, fixed.numpy(), state.numpy()))


def improve_symmetric(
    x: torch.Tensor, weights: torch.Tensor, top: int, tries: Sequence[float], peak: torch.Tensor, state: torch.Tensor
) -> None:
    """The tries of `searches.fit_symmetric`: `state` float32 [3, n] is improved in place: best, scale, best inverse."""
    numerators = np.array(tries, dtype=np.float32)
    _improve_symmetric(x.numpy(), weights.numpy(), np.float32(top), numerators, peak.numpy(), state.numpy())


def fit_scales(
    x: torch.Tensor, weights: torch.Tensor, top: int, tries: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """`searches.fit_scales`; None where it gave up."""
    scale, codes = torch.zeros(x.shape[1]), torch.zeros(x.shape)
    numerators = np.array(tries, dtype=np.float32)
    done = _fit_scales(x.numpy(), weights.numpy(), np.float32(top), numerators, scale.numpy(), codes.numpy())
    return (scale, codes) if done else None


def _compile(function: Callable[..., Any]) -> Any:
    """Division by zero is C's, and no lock is held. The machine code is kept beside this file or in the user's cache, if it can be."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither can be written to
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compile
def _improve_affine(x, weights, top, tries, fixed, state):  # type: ignore[no-untyped-def]  # numba infers the types
    rows, count = x.shape
    tile = np.zeros((3, rows, LANES), np.float32)  # x, weights, codes
    lanes = np.zeros((8, LANES), np.float32)
    for start in range(0, count, LANES):
        used = min(LANES, count - start)
        _load(x[:, start : start + used], tile[0])
        _load(weights[:, start : start + used], tile[1])
        own_fixed, own_state = fixed[:, start : start + used], state[:, start : start + used]
        for numerator in tries:
            if not _next_inverse(numerator, own_fixed, own_state, lanes[0], lanes[1]):
                return False
            _affine_sums(tile[0], tile[1], lanes[0], lanes[1], top, tile[2], lanes[2], lanes[3], lanes[4])
            _solve(own_fixed, lanes[2], lanes[3], lanes[4], lanes[5], lanes[6])
            _affine_error(tile[0], tile[1], tile[2], lanes[5], lanes[6], lanes[7])
            _keep_better(lanes, own_state)
    return True


@_compile
def _load(columns, tile):  # type: ignore[no-untyped-def]
    for i in range(columns.shape[0]):
        for j in range(columns.shape[1]):
            tile[i, j] = columns[i, j]


@_compile
def _next_inverse(numerator, fixed, state, low, inverse):  # type: ignore[no-untyped-def]
    for j in range(fixed.shape[1]):
        low[j] = state[2, j]
        inverse[j] = numerator / (fixed[1, j] - low[j])
        if not (_ZERO < inverse[j] * fixed[0, j] < _RATIO):
            return False
    return True


@_compile
def _affine_sums(x, weights, low, inverse, top, codes, sum_l, sum_l2, sum_xl):  # type: ignore[no-untyped-def]
    for j in range(LANES):  # a constant number, also where fewer are used: that is what gets vectorised
        sum_l[j], sum_l2[j], sum_xl[j] = _ZERO, _ZERO, _ZERO
    for i in range(x.shape[0]):
        for j in range(LANES):
            code = ((x[i, j] - low[j]) * inverse[j] + _MAGIC) - _MAGIC
            code = code if code > _ZERO else _ZERO  # noqa: FURB136 - min and max mind NaN, which takes longer
            code = code if code < top else top  # noqa: FURB136
            codes[i, j] = code
            term = weights[i, j] * code
            sum_l[j] += term
            sum_l2[j] += term * code
            sum_xl[j] += term * x[i, j]


@_compile
def _solve(fixed, sum_l, sum_l2, sum_xl, scale, minimum):  # type: ignore[no-untyped-def]
    """The best scale and minimum for the codes; leaves the determinant in `sum_l`."""
    for j in range(fixed.shape[1]):
        sum_w, sum_x = fixed[2, j], fixed[3, j]
        determinant = sum_w * sum_l2[j] - sum_l[j] * sum_l[j]
        minimum[j] = (sum_l2[j] * sum_x - sum_l[j] * sum_xl[j]) / determinant
        scale[j] = (sum_w * sum_xl[j] - sum_x * sum_l[j]) / determinant
        if minimum[j] > _ZERO:
            minimum[j], scale[j] = _ZERO, sum_xl[j] / sum_l2[j]
        sum_l[j] = determinant


@_compile
def _affine_error(x, weights, codes, scale, minimum, error):  # type: ignore[no-untyped-def]
    for j in range(LANES):
        error[j] = _ZERO
    for i in range(x.shape[0]):
        for j in range(LANES):
            difference = codes[i, j] * scale[j] + minimum[j] - x[i, j]
            error[j] += difference * difference * weights[i, j]


@_compile
def _keep_better(lanes, state):  # type: ignore[no-untyped-def]
    low, inverse, determinant, scale, minimum, error = lanes[0], lanes[1], lanes[2], lanes[5], lanes[6], lanes[7]
    for j in range(state.shape[1]):
        if determinant[j] > _ZERO and error[j] < state[0, j]:
            state[0, j], state[1, j], state[2, j], state[3, j], state[4, j] = error[j], scale[j], minimum[j], inverse[j], low[j]


@_compile
def _improve_symmetric(x, weights, top, tries, peak, state):  # type: ignore[no-untyped-def]
    rows, count = x.shape
    tile = np.zeros((2, rows, LANES), np.float32)
    lanes = np.zeros((3, LANES), np.float32)
    for start in range(0, count, LANES):
        used = min(LANES, count - start)
        _load(x[:, start : start + used], tile[0])
        _load(weights[:, start : start + used], tile[1])
        own_peak, own_state = peak[start : start + used], state[:, start : start + used]
        for numerator in tries:
            for j in range(used):
                lanes[0, j] = -numerator / own_peak[j]
            _symmetric_sums(tile[0], tile[1], lanes[0], top, lanes[1], lanes[2])
            for j in range(used):
                sum_lx, sum_l2 = lanes[1, j], lanes[2, j]
                if sum_l2 > _ZERO and sum_lx * sum_lx > own_state[0, j] * sum_l2:
                    scale = sum_lx / sum_l2
                    own_state[0, j], own_state[1, j], own_state[2, j] = scale * sum_lx, scale, lanes[0, j]
    return True


@_compile
def _symmetric_sums(x, weights, inverse, top, sum_lx, sum_l2):  # type: ignore[no-untyped-def]
    for j in range(LANES):
        sum_lx[j], sum_l2[j] = _ZERO, _ZERO
    for i in range(x.shape[0]):
        for j in range(LANES):
            code = (x[i, j] * inverse[j] + _MAGIC) - _MAGIC
            code = code if code > -top else -top  # noqa: FURB136
            code = code if code < top - _ONE else top - _ONE  # noqa: FURB136
            sum_lx[j] += weights[i, j] * x[i, j] * code
            sum_l2[j] += weights[i, j] * code * code


@_compile
def _fit_scales(x, weights, top, tries, scale, codes):  # type: ignore[no-untyped-def]
    for j in range(x.shape[1]):
        largest = _ZERO
        for i in range(x.shape[0]):
            if not (_ZERO <= x[i, j] <= _LARGEST):  # a negative code would wrap round
                return False
            largest = max(largest, x[i, j])
        if largest < _EPSILON:
            continue
        inverse = _best_inverse(x[:, j], weights[:, j], top, tries, largest)
        for i in range(x.shape[0]):
            codes[i, j] = min((x[i, j] * inverse + _MAGIC) - _MAGIC, top)
        found = _improve_one_by_one(x[:, j], weights[:, j], top, codes[:, j])
        if found < _ZERO:
            return False
        scale[j] = found
    return True


@_compile
def _best_inverse(x, weights, top, tries, largest):  # type: ignore[no-untyped-def]
    best, best_error = _ZERO, _ZERO
    for number in range(len(tries) + 1):
        inverse = (top if number == 0 else tries[number - 1]) / largest
        step, error = _ONE / inverse, _ZERO
        for i in range(len(x)):
            code = (x[i] * inverse + _MAGIC) - _MAGIC
            difference = x[i] - (code if number == 0 else min(code, top)) * step  # the first as ggml does it, not clamped
            error += weights[i] * difference * difference
        if number == 0 or error < best_error:
            best_error, best = error, inverse
    return best


@_compile
def _improve_one_by_one(x, weights, top, codes):  # type: ignore[no-untyped-def]
    """The scale, after moving codes; -1 where it gave up."""
    sum_lx, sum_l2 = _ZERO, _ZERO
    for i in range(len(x)):
        sum_lx += weights[i] * x[i] * codes[i]
        sum_l2 += weights[i] * codes[i] * codes[i]
    for _ in range(5):
        for i in range(len(x)):
            weighted, code = weights[i] * x[i], codes[i]
            rest_lx, rest_l2 = sum_lx - weighted * code, sum_l2 - weights[i] * code * code
            if rest_lx > _ZERO and rest_l2 > _ZERO:
                wanted = x[i] * rest_l2 / rest_lx
                if not wanted <= _LARGEST:
                    return -_ONE
                new = min((wanted + _MAGIC) - _MAGIC, top)
                new_lx, new_l2 = rest_lx + weighted * new, rest_l2 + weights[i] * new * new
                if new != code and new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2:
                    codes[i], sum_lx, sum_l2 = new, new_lx, new_l2
    return sum_lx / sum_l2 if sum_l2 > _ZERO else _ZERO
