"""The probability of detection by size: the fit, its bounds, and data that do not give a curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binom

from pixal.errors import InputError
from pixal.validation.detection_probability import DetectionCurve, fit_detection_curve
from pixal.validation.logistic import fit_logistic, log_likelihood

SIZES = np.geomspace(1, 16, 7)


def simulated(per_size: int, slope: float, seed: int, a50: float = 4.0) -> tuple[Any, Any]:
    sizes = np.repeat(SIZES, per_size)
    return sizes, np.random.default_rng(seed).random(len(sizes)) < expit(slope * np.log(sizes / a50))


def counted(sizes: list[float], found: list[int], planted: list[int]) -> tuple[Any, Any]:
    outcomes = [[True] * k + [False] * (n - k) for k, n in zip(found, planted, strict=True)]
    return np.repeat(sizes, planted), np.concatenate(outcomes)


def test_the_fit_of_a_published_example() -> None:
    """The beetles of Bliss (1935), with the coefficients in Dobson (2002), An Introduction to GLMs, table 7.4."""
    log10_dose = np.array([1.6907, 1.7242, 1.7552, 1.7842, 1.8113, 1.8369, 1.8610, 1.8839])
    curve = fit_detection_curve(
        *counted(list(10**log10_dose), [6, 13, 18, 28, 52, 53, 61, 60], [59, 60, 62, 56, 63, 59, 62, 60])
    )
    assert curve.outcome == "fitted"
    assert curve.intercept == pytest.approx(-60.72, abs=0.01)
    assert curve.slope == pytest.approx(34.27 / np.log(10), abs=0.01)
    fitted = curve.probability(10**log10_dose)
    assert fitted is not None
    np.testing.assert_allclose(
        fitted * curve.planted, [3.46, 9.84, 22.45, 33.90, 50.10, 53.29, 59.22, 58.74], atol=0.01
    )


def test_many_fits_at_once_agree_with_a_slow_maximisation_of_each() -> None:
    columns = np.column_stack([np.ones(7), np.linspace(-1.5, 1.5, 7)])
    trials = np.array([5, 8, 10, 10, 10, 4, 9])
    hits = np.random.default_rng(1).binomial(trials, expit(columns @ [0.3, 1.2]), (20, 7))
    fast = fit_logistic(columns, hits, trials)
    for row, coefficients in zip(hits, fast, strict=True):

        def loss(x: Any, row: Any = row) -> float:
            return -float(log_likelihood((columns @ x)[None], row[None], trials)[0])

        slow = minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
        np.testing.assert_allclose(coefficients, slow.x, atol=1e-4)


def test_the_scale_of_the_sizes_does_not_matter() -> None:
    sizes, found = simulated(15, 3, 0)
    first, large = fit_detection_curve(sizes, found), fit_detection_curve(100 * sizes, found)
    assert first.a90 is not None
    assert large.a90 == pytest.approx(100 * first.a90)
    assert large.a90_95 == pytest.approx(100 * (first.a90_95 or 0), rel=1e-4)
    order = np.random.default_rng(0).permutation(len(sizes))
    assert fit_detection_curve(sizes[order], found[order]).a90_95 == first.a90_95


def test_the_bounds_narrow_with_more_defects() -> None:
    excess, widths = [], []
    for per_size in (10, 40, 160):
        curves = [fit_detection_curve(*simulated(per_size, 3, seed)) for seed in range(4)]
        excess.append(np.mean([np.log((c.a90_95 or np.inf) / (c.a90 or 0)) for c in curves]))
        widths.append(np.mean([np.subtract(*c.band(SIZES)[::-1]).mean() for c in curves]))
    assert excess[0] > 1.5 * excess[1] > 2 * excess[2] > 0
    assert widths[0] > 1.6 * widths[1] > 2.2 * widths[2] > 0


def test_the_band_contains_the_curve_and_the_truth() -> None:
    covered = []
    for seed in range(25):
        curve = fit_detection_curve(*simulated(20, 3, seed))
        low, high = curve.band(SIZES[[1, 3, 5]])
        fitted = curve.probability(SIZES[[1, 3, 5]])
        assert fitted is not None
        assert ((low < fitted) & (fitted < high)).all()
        truth = expit(3 * np.log(SIZES[[1, 3, 5]] / 4))
        covered.append((low < truth) & (truth < high))
    assert np.mean(covered) > binom.ppf(1e-3, 75, 0.9) / 75


def test_29_of_29_found_is_what_90_percent_with_95_percent_confidence_needs() -> None:
    sizes = np.arange(1.0, 41)
    curve = fit_detection_curve(sizes, np.ones(40))
    assert (curve.outcome, curve.a90, curve.probability(sizes)) == ("all found", None, None)
    assert curve.a90_95 == 29
    assert fit_detection_curve(sizes[:28], np.ones(28)).a90_95 is None
    low, high = curve.band(np.array([0.5, 10.0, 40.0]))
    np.testing.assert_allclose(low, [0, 0.025 ** (1 / 10), 0.025 ** (1 / 40)])
    np.testing.assert_array_equal(high, 1)


def test_none_found_says_only_that_detection_is_improbable() -> None:
    curve = fit_detection_curve(np.arange(1.0, 41), np.zeros(40))
    assert (curve.outcome, curve.a90, curve.a90_95) == ("none found", None, None)
    low, high = curve.band(np.array([1.0, 31.0, 50.0]))
    np.testing.assert_array_equal(low, 0)
    np.testing.assert_allclose(high, [1 - 0.025 ** (1 / 40), 1 - 0.025 ** (1 / 10), 1])


def test_separated_sizes_give_bounds_but_no_curve() -> None:
    curve = fit_detection_curve(*counted([1, 2, 3, 4, 5], [0, 0, 20, 20, 20], [20, 20, 20, 20, 20]))
    assert (curve.outcome, curve.a90, curve.slope) == ("separated", None, None)
    assert curve.a90_95 == 4
    low, high = curve.band(np.array([1.0, 2.5, 5.0]))
    np.testing.assert_allclose(low, [0, 0, 0.025 ** (1 / 60)])
    np.testing.assert_allclose(high, [1 - 0.025 ** (1 / 40), 1, 1])


@pytest.mark.parametrize("found", [[9, 6, 3], [5, 5, 5], [10, 5, 0]])
def test_larger_defects_that_are_not_found_more_often_give_no_size(found: list[int]) -> None:
    curve = fit_detection_curve(*counted([1, 2, 4], found, [10, 10, 10]))
    assert (curve.outcome, curve.a90, curve.a90_95) == ("not growing", None, None)
    low, high = curve.band(np.array([2.0]))
    assert (low[0], high[0]) == (0, 1)


def test_equal_rates_at_two_sizes_are_no_slope_whatever_rounding_gives() -> None:
    for found in (13, 17, 18):
        assert fit_detection_curve(*counted([4, 12], [found, found], [20, 20])).outcome == "not growing"


def test_a_size_too_large_for_a_number_is_infinite() -> None:
    curve = DetectionCurve("fitted", 0.0, 1e-3, SIZES, np.zeros(7, int), np.ones(7, int))
    assert curve.a90 == np.inf


def test_a_slope_that_may_be_0_gives_a_size_but_no_bound() -> None:
    curve = fit_detection_curve(*counted([1, 2, 4], [4, 5, 6], [10, 10, 10]))
    assert curve.outcome == "fitted"
    assert curve.a90 is not None
    assert curve.a90_95 is None
    low, high = curve.band(np.array([1e6]))
    assert low[0] < 0.4
    assert high[0] > 0.999


def test_invalid_data_are_errors() -> None:
    for sizes, found in (([], []), ([1, 2], [True]), ([[1]], [[True]])):
        with pytest.raises(InputError, match="there must be one per defect"):
            fit_detection_curve(np.array(sizes), np.array(found))
    for size in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError, match="above 0 and finite"):
            fit_detection_curve(np.array([1, size]), np.array([True, False]))
