"""Two models that scored the same defects on the same parts: rates, ranking, tests and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from pixal.validation.paired import PlantedScores, compare_paired


def paired(peaks: Any, parts: Any, good: Any, threshold: float = 1.0) -> PlantedScores:
    return PlantedScores(np.asarray(peaks, float), np.asarray(parts, np.intp), np.asarray(good, float), threshold)


@pytest.mark.parametrize("digits", [1, 8])
def test_the_area_under_the_curve_is_that_of_scikit_learn(digits: int) -> None:
    rng = np.random.default_rng(1)
    peaks, good = np.round(rng.normal(1, 1, 200), digits), np.round(rng.normal(0, 1, 15), digits)
    model = paired(peaks, rng.integers(0, 15, 200), good)
    labels = np.repeat([1, 0], [200, 15])
    assert model.auroc == pytest.approx(roc_auc_score(labels, np.concatenate([peaks, good])))
    assert model.detection_rate == np.mean(peaks > 1)


def test_a_model_does_not_differ_from_itself() -> None:
    rng = np.random.default_rng(2)
    model = paired(rng.normal(1, 1, 100), rng.integers(0, 9, 100), rng.normal(0, 1, 9))
    difference = compare_paired(model, model)
    assert (difference.p_value, difference.verdict) == (1, "no difference")
    assert difference.detection_interval == difference.auroc_interval == (0, 0)


def test_the_p_value_is_that_of_a_fair_coin_among_discordant_defects() -> None:
    first = paired([2] * 9 + [0] * 2 + [2] * 30, range(41), np.zeros(41))
    second = paired([0] * 9 + [2] * 2 + [2] * 30, range(41), np.zeros(41))
    difference = compare_paired(first, second)
    assert difference.p_value == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert difference.detection_rate == pytest.approx(7 / 41)


def test_a_planted_difference_is_found_and_its_sign_is_right() -> None:
    rng = np.random.default_rng(3)
    parts, good = np.repeat(np.arange(20), 15), rng.normal(0, 0.3, 20)
    peaks = rng.normal(0.8, 1, 300)
    better, worse = paired(peaks + 0.4, parts, good), paired(peaks, parts, good)
    assert compare_paired(better, worse).verdict == "better"
    assert compare_paired(worse, better).verdict == "worse"
    assert compare_paired(better, worse).auroc_interval[0] > 0


def test_more_comparisons_make_wider_intervals() -> None:
    rng = np.random.default_rng(4)
    parts, good = np.repeat(np.arange(20), 10), rng.normal(0, 0.3, 20)
    first, second = (paired(rng.normal(1, 1, 200), parts, good) for _ in range(2))
    one, five = (compare_paired(first, second, comparisons=count) for count in (1, 5))
    assert five.detection_interval[0] < one.detection_interval[0]
    assert five.detection_interval[1] > one.detection_interval[1]
    assert (one.alpha, five.alpha) == pytest.approx((0.05, 0.01))


def test_equally_good_models_are_seldom_called_different_though_defects_of_a_part_are_alike() -> None:
    rng = np.random.default_rng(5)
    parts, good, wrong = np.repeat(np.arange(16), 12), np.zeros(16), 0
    for _ in range(200):
        shared = rng.normal(1, 1, len(parts))
        first, second = (
            paired(shared + rng.normal(0, 0.3, 16)[parts] + rng.normal(0, 0.5, len(parts)), parts, good)
            for _ in range(2)
        )
        wrong += compare_paired(first, second).verdict != "no difference"
    assert wrong <= 20  # 5 % are expected


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(6)
    parts = np.concatenate([np.arange(12), rng.integers(0, 12, 60)])
    first, second = (paired(rng.normal(1 + shift, 1, 72), parts, rng.normal(0, 1, 12)) for shift in (0.5, 0))
    fast = compare_paired(first, second)
    rates, areas = [], []
    for _ in range(2000):
        drawn = rng.integers(0, 12, 12)
        rows = np.concatenate([np.flatnonzero(parts == part) for part in drawn])
        rates.append(first.found[rows].mean() - second.found[rows].mean())
        areas.append(np.subtract(*((model.peaks[rows, None] > model.good[drawn]).mean() for model in (first, second))))
    assert fast.detection_interval == pytest.approx(np.quantile(rates, [0.025, 0.975]), abs=0.03)
    assert fast.auroc_interval == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.03)


def test_other_defects_are_refused() -> None:
    with pytest.raises(ValueError, match="different defects or parts"):
        compare_paired(paired([1, 2], [0, 1], [0, 0]), paired([1, 2], [1, 0], [0, 0]))
