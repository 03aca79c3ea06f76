"""P-values agree with those of SciPy, and with counting all orders."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.special import stdtr
from scipy.stats import fisher_exact, mannwhitneyu

from pixal.validation.hypothesis_tests import fisher_test, rank_test, student_tail


@pytest.mark.parametrize("shift", [0.0, 0.7, -3.0])
@pytest.mark.parametrize("sizes", [(1, 2), (1, 40), (4, 4), (8, 300), (9, 8), (9, 9), (40, 60)])
@pytest.mark.parametrize("decimals", [12, 1])  # 1: many values are equal
def test_the_rank_test_is_that_of_scipy(sizes: tuple[int, int], shift: float, decimals: int) -> None:
    random = np.random.default_rng(5)
    first, second = (random.normal(0, 1, size).round(decimals) for size in sizes)
    first = first + shift
    assert rank_test(first, second) == pytest.approx(float(mannwhitneyu(first, second).pvalue), rel=1e-9)
    assert rank_test(second, first) == pytest.approx(rank_test(first, second), rel=1e-12)


def test_the_exact_rank_test_counts_orders() -> None:
    first, second = np.array([0.3, 2.5, 2.7]), np.array([0.1, 0.2, 1.0, 2.0])
    u = sum(a > b for a in first for b in second)
    others = [sum(a - rank for rank, a in enumerate(chosen)) for chosen in combinations(range(7), 3)]
    assert rank_test(first, second) == pytest.approx(2 * np.mean([other >= u for other in others]))


def test_equal_values_differ_by_chance() -> None:
    assert rank_test(np.ones(20), np.ones(12)) == 1
    assert rank_test(np.ones(3), np.ones(2)) == 1


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 39, 1000, 100_000])
def test_the_tail_of_student_is_that_of_scipy(freedom: int) -> None:
    for distance in (0.0, 1e-9, 0.3, 1.0, 2.5, 8.0, 40.0, 1e6):
        expected = float(stdtr(freedom, -distance))
        assert student_tail(freedom, distance) == pytest.approx(expected, rel=1e-8, abs=1e-290)
    assert student_tail(freedom, float("inf")) == 0


@pytest.mark.parametrize(
    "table", [[[0, 9], [0, 30]], [[3, 9], [1, 30]], [[0, 5], [4, 4]], [[5, 0], [0, 40]], [[15, 25], [0, 2000]]]
)
def test_the_test_of_shares_is_that_of_scipy(table: list[list[int]]) -> None:
    expected = float(fisher_exact(table, alternative="greater").pvalue)
    assert fisher_test(table) == pytest.approx(expected, rel=1e-9)
