"""Codes by a reciprocal and one correction are those by a division, for every value and every scale: `programs.blocks`' proof.

For x = value / scale and e = 2^-24, with each operation rounded once: reciprocal = (1 + e1) / scale, near = x (1 + e1) (1 + e2),
left = (x - near) scale (1 + e3), and what the last operation rounds is t = near + left * reciprocal, so that

    |t - x| <= |x - near| (e + e + e^2) <= |x| (2 e + e^2)^2, below |x| 2^-46 (1 + 2^-23).

Rounding t to float32 and then to an integer goes up at the same places as rounding x does: where a number half way between two float32
numbers, beside an integer and a half, is passed. There are 127 such places below 127.5. At one of them, M / 2^j with M odd and of 25 or 26
bits, a quotient of two 24-bit integers V 2^k / S is R / (M S) of itself away for the integer R = V 2^k - M S, so t can be on the other side
only where |R| <= 2^-46 M S (1 + 2^-22). For each such R there is at most one S by 2^k, R = -M S modulo 2^k, and they are all tried here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

MANTISSAS = range(1 << 23, 1 << 24)
"""Of normal float32 numbers, as integers: powers of two change nothing, since nothing underflows from scales of 2^-100."""


def places() -> Iterator[Fraction]:
    """Where the code goes from n to n + 1: half way from n + 1/2 to the next float32 number on the side of the odd code."""
    for n in range(127):
        half = np.float32(n + 0.5)
        beside = np.nextafter(half, np.float32(1000 if n % 2 == 0 else 0))
        yield (Fraction(float(half)) + Fraction(float(beside))) / 2


def nearest(exact: Fraction) -> np.float32:
    """An exact number of at most 53 bits as float32."""
    assert Fraction(float(exact)) == exact
    return np.float32(float(exact))


def hard_cases() -> Iterator[tuple[Fraction, np.float32, np.float32]]:
    """(place, value, scale) of every quotient that could be on the other side of a place, and of twice as many."""
    for place in places():
        odd = place.numerator
        for k in range(23, 27):
            inverse = pow(odd, -1, 1 << k)
            for distance in (each for each in range(-16, 17) if each):
                for scale in range(-distance * inverse % (1 << k), MANTISSAS.stop, 1 << k):
                    value, rest = divmod(odd * scale + distance, 1 << k)
                    assert rest == 0
                    if scale in MANTISSAS and value in MANTISSAS:
                        yield place, nearest(Fraction(value << k, place.denominator)), np.float32(scale)


def corrected(value: np.float32, scale: np.float32) -> tuple[Fraction, Fraction]:
    """(near, t) of the program."""
    reciprocal = np.float32(1) / scale
    near = value * reciprocal
    left = nearest(Fraction(float(value)) - Fraction(float(near)) * Fraction(float(scale)))
    return Fraction(float(near)), Fraction(float(left)) * Fraction(float(reciprocal)) + Fraction(float(near))


def test_twice_the_bound_is_tried() -> None:
    largest = max(place.numerator for place in places()) * (MANTISSAS.stop - 1)
    assert 2 * Fraction(largest, 1 << 46) * (1 + Fraction(1, 1 << 22)) <= 16


def test_no_quotient_is_near_enough_to_get_another_code() -> None:
    cases = list(hard_cases())
    wrong_without_correction = 0
    for place, value, scale in cases:
        exact = Fraction(float(value)) / Fraction(float(scale))
        near, found = corrected(value, scale)
        assert exact != place != found
        assert (found > place) == (exact > place), (value, scale)
        assert np.rint(value / scale) == int(place) + (exact > place), "the definition changes its code elsewhere"
        wrong_without_correction += (near > place) != (exact > place)
    assert len(cases) > 1000 and wrong_without_correction > 100
