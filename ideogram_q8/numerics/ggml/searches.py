"""ggml's searches for scales: each tries a list of scales and keeps, per column, the one with the least weighted square error.

Read from ggml-quants.c (MIT). Columns are blocks (see c_float); all numbers are float32. What a search keeps of a try is its scale,
not its codes: they are computed once more at the end, which is cheaper than choosing among them at every try.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ideogram_q8.numerics.ggml.c_float import EPSILON, divide, least, nearest, nearest_, ordered_sum, signed_peak

_TILE = 1024
"""Columns that a search on a CPU takes at a time."""


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
    search = _AffineSearch(x, weights, high - low, top)
    inverse = divide(float(top), high - low)
    scale, minimum = divide(1.0, inverse), low
    best_inverse, best_start = inverse, low
    search.sums(inverse, minimum)
    error = search.errors(scale, minimum)
    for numerator in tries:
        inverse = divide(numerator, high - minimum)  # from the best minimum so far, as ggml does
        sum_l, sum_l2, sum_xl = search.sums(inverse, minimum)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        above = new_minimum > 0
        new_scale = torch.where(above, sum_xl / sum_l2, (sum_w * sum_xl - sum_x * sum_l) / determinant)
        new_minimum.masked_fill_(above, 0.0)
        new_error = search.errors(new_scale, new_minimum)
        better = (determinant > 0) & (new_error < error)
        best_inverse = torch.where(better, inverse, best_inverse)
        best_start = torch.where(better, minimum, best_start)
        scale = torch.where(better, new_scale, scale)
        minimum = torch.where(better, new_minimum, minimum)
        error = torch.where(better, new_error, error)
    search.sums(best_inverse, best_start)
    return scale.masked_fill(flat, 0.0), minimum, torch.cat(search.codes, 1)


class _AffineSearch:
    """The passes of `fit_affine` over whole columns, tile by tile: what a tile's passes hand on stays in a CPU's cache."""

    def __init__(self, x: torch.Tensor, weights: torch.Tensor, span: torch.Tensor, top: int) -> None:
        """float32 [m, n] twice; span [n], largest value minus first minimum, bounds the codes before they are clamped to `top`."""
        self.width = _TILE if x.device.type == "cpu" else max(1, x.shape[1])
        self.x = [part.contiguous() for part in x.split(self.width, 1)]
        self.weights = [part.contiguous() for part in weights.split(self.width, 1)]
        self.codes = [torch.empty_like(part) for part in self.x]
        self.span, self.top = span, top
        self.spare = torch.empty(2, self.x[0].numel(), device=x.device)

    def sums(self, inverse: torch.Tensor, minimum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sets codes to `nearest_int(inverse * (x - minimum))` in 0..top; sums of weights times codes, codes**2, codes * x, [n]."""
        # |x - minimum| <= span + (high - minimum), and inverse * (high - minimum) is at most top + 1
        least_ratio, largest_ratio = torch.aminmax(inverse * self.span)
        tame = float(least_ratio) > 0 and float(largest_ratio) < 1 << 21
        found = []
        parts = zip(self.x, self.weights, inverse.split(self.width), minimum.split(self.width), strict=True)
        for i, (x, weights, factor, start) in enumerate(parts):
            scaled = torch.sub(x, start, out=self.codes[i]).mul_(factor)
            codes = self.codes[i] = nearest_(scaled, 0, self.top, tame=tame)
            terms, more = (row[: x.numel()].view_as(x) for row in self.spare)
            sum_l = ordered_sum(torch.mul(weights, codes, out=terms))
            sum_l2 = ordered_sum(torch.mul(terms, codes, out=more))
            found.append(torch.stack([sum_l, sum_l2, ordered_sum(terms.mul_(x))]))
        sum_l, sum_l2, sum_xl = torch.cat(found, 1)
        return sum_l, sum_l2, sum_xl

    def errors(self, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        """Sum of weights * (scale * codes + minimum - x)**2, [n]."""
        found = []
        parts = zip(self.x, self.weights, self.codes, scale.split(self.width), minimum.split(self.width), strict=True)
        for x, weights, codes, factor, start in parts:
            terms = self.spare[0, : x.numel()].view_as(x)
            torch.mul(codes, factor, out=terms).add_(start).sub_(x)
            found.append(ordered_sum(terms.mul_(terms).mul_(weights)))
        return torch.cat(found)


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
    for numerator in numerators(top, 0.0, 0.1, [*range(-9, 0), *range(1, 10)]):
        inverse = divide(-numerator, peak)
        sum_lx, sum_l2 = _symmetric_sums(x, weights, weighted_x, inverse, top)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        new_scale = sum_lx / sum_l2
        best_inverse = torch.where(better, inverse, best_inverse)
        scale = torch.where(better, new_scale, scale)
        best = torch.where(better, new_scale * sum_lx, best)
    codes = (x * best_inverse).round_().clamp_(-top, top - 1).add_(top)
    return scale.masked_fill(zero, 0.0), codes.masked_fill_(zero, 0.0)


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
    largest = x.amax(0)
    zero = ~(largest >= EPSILON)
    largest = torch.where(zero, torch.ones_like(largest), largest)
    inverse = divide(float(top), largest)
    scale = divide(1.0, inverse)
    best_error = _scale_error(x, weights, _as_byte(nearest(x * inverse)), scale)
    for numerator in numerators(top, 0.0, 0.1, [*range(-4, 0), *range(1, 5)]):
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
