"""P-values of three classical tests: of Mann and Whitney, of Student and of Fisher.

They are all that ``pixal validate`` would need of SciPy, which is a quarter of the size of an installation that only
applies models. They agree with SciPy's, see ``tests/unit/test_hypothesis_tests.py``.
"""

from __future__ import annotations

from math import comb, erfc, exp, isfinite, lgamma, log, log1p, sqrt

import numpy as np
from numpy.typing import NDArray

_MOST_EXACT = 8  # values in the smaller sample; with more, the normal distribution is close enough
_PRECISION = 1e-15
_MOST_STEPS = 10_000
_TINY = 1e-300  # in place of 0 in a denominator


def rank_test(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The two-sided p-value of Mann and Whitney's U (1947); 1 where all values are equal.

    It is exact if no values are equal and one sample has at most 8 values. Otherwise U is normal, with corrections for
    continuity and for equal values, as in ``scipy.stats.mannwhitneyu``.

    Args:
        first: (n,), finite.
        second: (m,), finite.
    """
    n, m = len(first), len(second)
    ordered = np.sort(second)
    below = sum(int(np.searchsorted(ordered, first, side=side).sum()) for side in ("left", "right")) / 2
    largest = max(below, n * m - below)
    _, ties = np.unique(np.concatenate([first, second]), return_counts=True)
    if min(n, m) <= _MOST_EXACT and ties.max() == 1:
        counts = _counts_of_u(min(n, m), max(n, m), n * m - round(largest))
        return min(2 * (sum(counts) / comb(n + m, n)), 1.0)
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return min(erfc((largest - n * m / 2 - 0.5) / sqrt(2 * variance)), 1.0)


def student_tail(freedom: int, distance: float) -> float:
    """The probability that Student's t with ``freedom`` degrees of freedom is above ``distance`` (at least 0)."""
    if not isfinite(distance):
        return 0.0
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + distance**2)) / 2


def fisher_test(table: list[list[int]]) -> float:
    """The one-sided p-value of Fisher's exact test (1922): of an upper left entry as large as this, or larger.

    Args:
        table: Two rows of two counts.
    """
    (hits, misses), (other_hits, other_misses) = table
    drawn, all_hits, total = hits + misses, hits + other_hits, hits + misses + other_hits + other_misses
    ways = sum(
        comb(all_hits, count) * comb(total - all_hits, drawn - count) for count in range(hits, min(all_hits, drawn) + 1)
    )
    return ways / comb(total, drawn)


def _counts_of_u(n: int, m: int, most: int) -> list[int]:
    """In how many orders of n and m values U is 0, 1, ... and ``most``.

    They are the coefficients of the Gaussian binomial, the product of (1 - q^(m + i)) / (1 - q^i) over i = 1 to n.
    """
    counts = [1] + [0] * most
    for i in range(1, n + 1):
        for power in range(most, m + i - 1, -1):
            counts[power] -= counts[power - m - i]
        for power in range(i, most + 1):
            counts[power] += counts[power - i]
    return counts


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (Press et al. 2007, section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(b, a, 1 - x)
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    fraction, change, step = d, 0.0, 0
    while abs(change - 1) > _PRECISION and step < _MOST_STEPS:
        step += 1
        even = step * (b - step) * x / ((a - 1 + 2 * step) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 1 + 2 * step))
        for term in (even, odd):
            c, d = _not_zero(1 + term / c), 1 / _not_zero(1 + term * d)
            change = c * d
            fraction *= change
    return fraction / a * exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b))


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
