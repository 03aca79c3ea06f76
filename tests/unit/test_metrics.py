"""Measures of parts against scikit-learn; their intervals against slow resampling and the binomial distribution."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pixal.validation import intervals
from pixal.validation.intervals import mean_interval, ranking_intervals, rate_interval
from pixal.validation.metrics import LabelledPart, compute_measures, image_intervals, image_measures
from pixal.validation.pixel_metrics import PixelCounts, compute_pixel_measures, part_aupimo


@pytest.mark.parametrize("seed", range(5))
def test_image_measures_equal_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.append(generator.integers(0, 2, 40), [0, 1])
    scores = np.round(generator.normal(labels, 1), 1)  # ties
    failed = scores > 0.7
    actual = image_measures(labels, scores, failed)
    assert actual.image_auroc == pytest.approx(roc_auc_score(labels, scores))
    assert actual.image_ap == pytest.approx(average_precision_score(labels, scores))
    assert actual.f1_max == pytest.approx(max(f1_score(labels, scores >= t) for t in scores))
    assert actual.false_alarm_rate == sum(failed & (labels == 0)) / sum(labels == 0)
    assert actual.detection_rate == sum(failed & (labels == 1)) / sum(labels == 1)
    assert (actual.good, actual.defective) == (sum(labels == 0), sum(labels == 1))


def test_measures_without_the_parts_that_they_need_are_none() -> None:
    good = image_measures(np.zeros(3, int), np.arange(3.0), np.array([False, False, True]))
    assert good.false_alarm_rate == pytest.approx(1 / 3)
    assert [getattr(good, key) for key in ("image_auroc", "image_ap", "f1_max", "detection_rate")] == [None] * 4
    bad = image_measures(np.ones(2, int), np.arange(2.0), np.array([True, True]))
    assert (bad.detection_rate, bad.false_alarm_rate, bad.image_auroc) == (1.0, None, None)
    nothing = compute_measures([], PixelCounts()).image
    assert nothing.good == nothing.defective == 0
    assert nothing.detection_rate is None


def test_each_kind_of_defect_has_its_measures() -> None:
    parts = [
        LabelledPart(0, "good", 1.0, False),
        LabelledPart(0, "good", 1.5, False),
        LabelledPart(0, "good", 3.0, True),
        LabelledPart(1, "scratch", 5.0, True),
        LabelledPart(1, "scratch+blob", 2.0, False),
        LabelledPart(1, "", 9.0, True),
    ]

    def kind_of(parts: int, failed: int, auroc: float) -> dict[str, Any]:
        low, high = rate_interval(failed, parts)
        return {
            "parts": parts,
            "image_auroc": pytest.approx(auroc),
            "detection_rate": failed / parts,
            "intervals": {"detection_rate": [low, high]},
        }

    actual = compute_measures(parts, PixelCounts()).as_dict()
    assert actual["kinds"] == {
        "blob": kind_of(1, 0, 2 / 3),
        "scratch": kind_of(2, 1, (1 + 2 / 3) / 2),
    }
    assert actual["image_auroc"] == pytest.approx((3 + 2 + 3) / 9)
    assert "aupro" not in actual


def test_masks_give_pixel_measures_and_the_interval_of_aupimo() -> None:
    generator = np.random.default_rng(0)
    counts, mask = PixelCounts(), np.zeros((60, 60), bool)
    mask[10:30, 10:30] = True
    for part in range(8):
        inside = mask & (part > 2)
        counts.add((generator.random(mask.shape) + inside * part / 16).astype(np.float16), inside)
    actual = compute_measures([LabelledPart(1, "", 5.0, True)], counts).as_dict()
    assert actual | asdict(compute_pixel_measures(counts)) == actual
    low, high = actual["intervals"]["aupimo"]
    each = part_aupimo(counts)
    assert each.min() < low < actual["aupimo"] < high < each.max()
    assert actual["aupimo"] == pytest.approx(each.mean())


def slow_ranking_intervals(labels: np.ndarray, scores: np.ndarray, resamples: int) -> dict[str, np.ndarray]:
    """One resample at a time, with scikit-learn."""
    generator = np.random.default_rng(7)
    good, bad = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    measures = []
    for _ in range(resamples):
        rows = np.concatenate([generator.choice(good, len(good)), generator.choice(bad, len(bad))])
        measures.append(
            (roc_auc_score(labels[rows], scores[rows]), average_precision_score(labels[rows], scores[rows]))
        )
    ends = np.quantile(measures, [0.025, 0.975], axis=0)
    return {"image_auroc": ends[:, 0], "image_ap": ends[:, 1]}


@pytest.mark.parametrize(("good", "bad", "cells"), [(15, 25, 2_000_000), (20, 20, 5000)])
def test_ranking_intervals_equal_those_of_a_slow_bootstrap(
    good: int, bad: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_MAX_VALUES", cells)  # the second case uses many small chunks
    generator = np.random.default_rng(good)
    labels = np.repeat([0, 1], [good, bad])
    scores = np.round(generator.normal(labels * 0.8, 1), 1)  # ties
    expected = slow_ranking_intervals(labels, scores, 600)
    order = generator.permutation(len(labels))
    for name, actual in ranking_intervals(labels[order], scores[order]).items():
        np.testing.assert_allclose(actual, expected[name], atol=0.03)  # two bootstraps differ by their seeds


def test_each_resample_has_the_measures_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores are common, and how often a part was drawn is its weight."""
    monkeypatch.setattr(intervals, "_RESAMPLES", 40)
    labels = np.array([0] * 7 + [1] * 5)
    scores = np.array([1, 1, 2, 2, 3, 4, 4, 2, 3, 3, 4, 6], float)
    order = np.argsort(-scores, kind="stable")
    generator = np.random.default_rng(intervals._SEED)
    weights = np.zeros((40, 12))
    for label, count in ((0, 7), (1, 5)):
        weights[:, labels[order] == label] = next(intervals.resample_counts(generator, count, 12))
    actual = ranking_intervals(labels, scores)
    for name, measure in (("image_auroc", roc_auc_score), ("image_ap", average_precision_score)):
        values = [measure(labels[order], scores[order], sample_weight=row) for row in weights]
        np.testing.assert_allclose(actual[name], np.quantile(values, [0.025, 0.975]), rtol=1e-12)


def test_intervals_are_deterministic_and_narrower_with_more_parts() -> None:
    generator = np.random.default_rng(0)
    widths = []
    for parts in (10, 1000):
        labels = np.arange(parts) % 2
        scores = generator.normal(labels, 1)
        actual = image_intervals(labels, scores, scores > 0.5)
        assert actual == image_intervals(labels, scores, scores > 0.5)
        measures = image_measures(labels, scores, scores > 0.5)
        for name, (low, high) in actual.items():
            assert low < asdict(measures)[name] < high, name
        widths.append({name: high - low for name, (low, high) in actual.items()})
    assert all(widths[1][name] < widths[0][name] / 4 for name in widths[0])


@pytest.mark.parametrize(("hits", "parts"), [(0, 20), (3, 20), (20, 20), (1, 1)])
def test_rate_intervals_are_exact(hits: int, parts: int) -> None:
    """Clopper and Pearson: at each end, the probability of a count at least as extreme is 2.5 %."""
    low, high = rate_interval(hits, parts)
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == parts)
    if hits:
        assert binom.sf(hits - 1, parts, low) == pytest.approx(0.025)
    if hits < parts:
        assert binom.cdf(hits, parts, high) == pytest.approx(0.025)


def test_the_bootstrap_interval_of_a_mean_equals_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(0).gamma(2, 1, 2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose(mean_interval(values), [values.mean() - half, values.mean() + half], rtol=0.01)
    assert mean_interval(np.array([0.25])) == (0.25, 0.25)


def test_a_measure_that_is_none_has_no_interval() -> None:
    actual = image_intervals(np.zeros(3, int), np.arange(3.0), np.array([False, False, True]))
    assert actual.keys() == {"false_alarm_rate"}
    assert compute_measures([], PixelCounts()).intervals == {}
