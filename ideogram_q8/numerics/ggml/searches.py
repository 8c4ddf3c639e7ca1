"""ggml's searches for scales: each tries a list of scales and keeps, per column, the one with the least weighted square error.

Read from ggml-quants.c (MIT). Columns are blocks (see c_float); all numbers are float32. What a search keeps of a try is its scale,
not its codes: they are computed once more at the end, which is cheaper than choosing among them at every try.

`compiled` is imported where it is used: numba takes half a second, and most programs only read blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ideogram_q8.numerics.ggml.c_float import EPSILON, divide, least, nearest, nearest_, ordered_sum, signed_peak


def numerators(top: int, first: float, step: float, indices: Iterable[int]) -> tuple[float, ...]:
    """`first + step * i + top` for each index i, rounded to float32 after each operation."""
    steps = torch.tensor(list(indices), dtype=torch.float32) * torch.tensor(step, dtype=torch.float32)
    return tuple((steps + torch.tensor(first, dtype=torch.float32) + float(top)).tolist())


def fit_affine(
    x: torch.Tensor, weights: torch.Tensor, top: int, tries: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`make_qkx2_quants` and `make_qkx3_quants`: x ~ scale * code + minimum with codes 0..top and a minimum not above 0.

    [m, n] twice -> scale [n], minimum [n], codes [m, n]. `tries`: what the range of a column is divided into, in turn.
    """
    sum_w, sum_x = ordered_sum(weights), ordered_sum(weights * x)
    low, high = least(x), x.amax(0)
    low = torch.where(low > 0, torch.zeros_like(low), low)
    flat = high == low
    high = torch.where(flat, low + 1, high)  # all codes are 0 then, and so is each determinant: no try is taken
    span = high - low
    inverse = divide(float(top), span)
    scale, minimum = divide(1.0, inverse), low
    codes, terms = torch.empty_like(x), torch.empty_like(x)
    codes = _affine_codes(x, inverse, low, span, top, codes)
    error = _error(x, weights, codes, scale, minimum, terms)
    fixed = torch.stack([span, high, sum_w, sum_x])
    start = torch.stack([error, scale, minimum, inverse, low])
    _, scale, minimum, inverse, low = _improve_affine(x, weights, top, tries, fixed, start)
    codes = _affine_codes(x, inverse, low, span, top, codes)
    return torch.where(flat, torch.zeros_like(scale), scale), minimum, codes


def _improve_affine(
    x: torch.Tensor, weights: torch.Tensor, top: int, tries: Sequence[float], fixed: torch.Tensor, start: torch.Tensor
) -> torch.Tensor:
    """What is best after all tries; `fixed` and `start` are those of `compiled.improve_affine`, which this gives the result of."""
    from ideogram_q8.numerics.ggml import compiled

    if compiled.available(x):
        state = start.clone()
        if compiled.improve_affine(x, weights, top, tries, fixed, state):
            return state
    span, high, sum_w, sum_x = fixed
    error, scale, minimum, best_inverse, best_start = start
    codes, terms, more = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
    for numerator in tries:
        inverse = divide(numerator, high - minimum)  # from the best minimum so far, as ggml does
        codes = _affine_codes(x, inverse, minimum, span, top, codes)
        sum_l = ordered_sum(torch.mul(weights, codes, out=terms))
        sum_l2 = ordered_sum(torch.mul(terms, codes, out=more))
        sum_xl = ordered_sum(terms.mul_(x))
        determinant = sum_w * sum_l2 - sum_l * sum_l
        new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        above = new_minimum > 0
        new_scale = torch.where(above, sum_xl / sum_l2, (sum_w * sum_xl - sum_x * sum_l) / determinant)
        new_minimum.masked_fill_(above, 0.0)
        new_error = _error(x, weights, codes, new_scale, new_minimum, terms)
        better = (determinant > 0) & (new_error < error)
        best_inverse = torch.where(better, inverse, best_inverse)
        best_start = torch.where(better, minimum, best_start)
        scale = torch.where(better, new_scale, scale)
        minimum = torch.where(better, new_minimum, minimum)
        error = torch.where(better, new_error, error)
    return torch.stack([error, scale, minimum, best_inverse, best_start])


def _affine_codes(
    x: torch.Tensor, inverse: torch.Tensor, minimum: torch.Tensor, span: torch.Tensor, top: int, out: torch.Tensor
) -> torch.Tensor:
    """`nearest_int(inverse * (x - minimum))` in 0..top, in `out` if that can be."""
    torch.sub(x, minimum, out=out).mul_(inverse)
    # |x - minimum| <= span + (high - minimum), and inverse * (high - minimum) is at most top + 1
    least_ratio, largest_ratio = torch.aminmax(inverse * span)
    tame = float(least_ratio) > 0 and float(largest_ratio) < 1 << 21
    return nearest_(out, 0, top, tame=tame)


def _error(
    x: torch.Tensor,
    weights: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor,
    minimum: torch.Tensor,
    out: torch.Tensor,
) -> torch.Tensor:
    """Sum of weights * (scale * codes + minimum - x)**2, [n]; `out` holds its terms."""
    torch.mul(codes, scale, out=out).add_(minimum).sub_(x)
    return ordered_sum(out.mul_(out).mul_(weights))


def fit_symmetric(x: torch.Tensor, weights: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`make_qx_quants` with rmse_type 1: x ~ scale * (code - top) with codes 0..2 top - 1.

    [m, n] twice -> scale [n], codes [m, n]; both zero where x is.
    """
    peak = signed_peak(x)
    zero = peak.abs() < EPSILON
    peak = torch.where(zero, torch.ones_like(peak), peak)
    weighted_x = weights * x
    inverse = divide(float(-top), peak)
    sum_lx, sum_l2 = _symmetric_sums(x, weights, weighted_x, inverse, top)
    best_inverse, scale = inverse, torch.where(sum_l2 == 0, torch.zeros_like(peak), sum_lx / sum_l2)
    best = scale * sum_lx
    tries = numerators(top, 0.0, 0.1, [*range(-9, 0), *range(1, 10)])
    state = torch.stack([best, scale, best_inverse])
    _, scale, best_inverse = _improve_symmetric(x, weights, weighted_x, top, tries, peak, state)
    codes = (x * best_inverse).round_().clamp_(-top, top - 1).add_(top)
    return scale.masked_fill(zero, 0.0), codes.masked_fill_(zero, 0.0)


def _improve_symmetric(
    x: torch.Tensor,
    weights: torch.Tensor,
    weighted_x: torch.Tensor,
    top: int,
    tries: Sequence[float],
    peak: torch.Tensor,
    state: torch.Tensor,
) -> torch.Tensor:
    """`state` after all tries, as `compiled.improve_symmetric` has it."""
    from ideogram_q8.numerics.ggml import compiled

    if compiled.available(x):
        compiled.improve_symmetric(x, weights, top, tries, peak, state)
        return state
    best, scale, best_inverse = state
    for numerator in tries:
        inverse = divide(-numerator, peak)
        sum_lx, sum_l2 = _symmetric_sums(x, weights, weighted_x, inverse, top)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        new_scale = sum_lx / sum_l2
        best_inverse = torch.where(better, inverse, best_inverse)
        scale = torch.where(better, new_scale, scale)
        best = torch.where(better, new_scale * sum_lx, best)
    return torch.stack([best, scale, best_inverse])


def _symmetric_sums(
    x: torch.Tensor, weights: torch.Tensor, weighted_x: torch.Tensor, inverse: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """With codes l = nearest_int(inverse * x): the sums of weights * x * l and of weights * l * l, [n] each."""
    codes = (x * inverse).round_().clamp_(-top, top - 1)  # the peak bounds the products: nothing nearest_int would distort
    terms = weighted_x * codes
    sum_lx = ordered_sum(terms)
    return sum_lx, ordered_sum(torch.mul(weights, codes, out=terms).mul_(codes))


def fit_scales(x: torch.Tensor, weights: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`make_qp_quants`, for the few scales of a block: x ~ scale * code with codes 0..top.

    [m, n] twice -> scale [n], codes [m, n].
    """
    tries = numerators(top, 0.0, 0.1, [*range(-4, 0), *range(1, 5)])
    from ideogram_q8.numerics.ggml import compiled

    if compiled.available(x):
        found = compiled.fit_scales(x, weights, top, tries)
        if found is not None:
            return found
    largest = x.amax(0)
    zero = ~(largest >= EPSILON)
    largest = torch.where(zero, torch.ones_like(largest), largest)
    inverse = divide(float(top), largest)
    scale = divide(1.0, inverse)
    best_error = _scale_error(x, weights, _as_byte(nearest(x * inverse)), scale)
    for numerator in tries:
        tried = divide(numerator, largest)
        error = _scale_error(x, weights, nearest(x * tried).clamp_max_(top), divide(1.0, tried))
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        inverse = torch.where(better, tried, inverse)
    scale, codes = _improve_one_by_one(x, weights, nearest(x * inverse).clamp_max_(top), top)
    return scale.masked_fill(zero, 0.0), codes.masked_fill(zero, 0.0)


def _scale_error(x: torch.Tensor, weights: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Sum of weights * (x - scale * codes)**2, multiplied from the left, [n]."""
    difference = x - codes * scale
    return ordered_sum(weights * difference * difference)


def _as_byte(codes: torch.Tensor) -> torch.Tensor:
    """C's cast of an int to uint8, kept as float32: a negative scale wraps round."""
    return codes.remainder(256.0)


def _improve_one_by_one(
    x: torch.Tensor, weights: torch.Tensor, whole: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The second half of make_qp_quants: five rounds in which each code moves to where the others would have it, if that helps."""
    weighted_x = weights * x
    sum_lx, sum_l2 = ordered_sum(weighted_x * whole), ordered_sum(weights * whole * whole)
    codes = _as_byte(whole)
    for _ in range(5):
        for i, code in enumerate(codes):
            rest_lx = sum_lx - weighted_x[i] * code
            rest_l2 = sum_l2 - weights[i] * code * code
            new = nearest(x[i] * rest_l2 / rest_lx).clamp_max_(top)
            new_lx = rest_lx + weighted_x[i] * new
            new_l2 = rest_l2 + weights[i] * new * new
            better = (rest_lx > 0) & (rest_l2 > 0) & (new != code)
            better &= new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2
            codes[i] = torch.where(better, _as_byte(new), code)
            sum_lx = torch.where(better, new_lx, sum_lx)
            sum_l2 = torch.where(better, new_l2, sum_l2)
    return torch.where(sum_l2 > 0, sum_lx / sum_l2, torch.zeros_like(sum_l2)), codes
