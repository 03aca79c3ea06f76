"""Measures of predicted positions and angles: planted widths, closed forms, slow obvious versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pixal.errors import InputError
from pixal.tasks.charge_clusters.measures.bound import cramer_rao
from pixal.tasks.charge_clusters.measures.centroid import centroid, fit_centroid
from pixal.tasks.charge_clusters.measures.head_tail import fit_head_tail, head_tail
from pixal.tasks.charge_clusters.measures.summary import (
    TARGETS,
    Binning,
    angle_degrees,
    equal_bins,
    measure,
    measure_target,
)
from pixal.tasks.charge_clusters.measuring import bound_of
from pixal.tasks.charge_clusters.settings import Clusters
from pixal.tasks.charge_clusters.simulation import Sensor, respond, simulate

WIDTHS = np.array([9.0, 2.0, 0.4, 0.03])


def planted(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions with correlated normal errors of known widths, and their covariance."""
    generator = np.random.default_rng(seed)
    correlation = np.eye(4)
    correlation[0, 2] = correlation[2, 0] = 0.6
    covariance = correlation * np.outer(WIDTHS, WIDTHS)
    truth = generator.uniform(-5, 5, (count, 4)) * WIDTHS
    errors = generator.multivariate_normal(np.zeros(4), covariance, count)
    return truth, truth - errors, np.broadcast_to(covariance, (count, 4, 4))


def test_planted_widths_are_measured() -> None:
    result = measure(*planted(20_000))
    assert result["events"] == 20_000
    assert tuple(result["targets"]) == TARGETS
    for width, target in zip(WIDTHS, result["targets"].values(), strict=True):
        expected = {
            "residual_mean": 0,
            "residual_width": width,
            "half_width_68": width * stats.norm.ppf(0.84),
            "half_width_95": width * stats.norm.ppf(0.975),
            "pull_mean": 0,
            "pull_width": 1,
            "coverage_68": 0.68,
            "coverage_95": 0.95,
        }
        for name, value in expected.items():
            error = (target[name]["high"] - target[name]["low"]) / 2
            assert target[name]["low"] < target[name]["value"] < target[name]["high"]
            assert abs(target[name]["value"] - value) < 2 * error, name
            assert error < 0.03 * max(value, width, 1 if "pull" in name else 0)
    assert result["pull_correlations"][0][2] == pytest.approx(0.6, abs=0.02)
    assert result["residual_correlations"][0][1] == pytest.approx(0, abs=0.02)
    for level, rate in result["joint_coverage"].items():
        assert rate["value"] == pytest.approx(int(level) / 100, abs=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of skewed residuals, too: those of a shifted exponential distribution with standard deviation 1."""
    generator, tries = np.random.default_rng(1), 400
    reference = generator.exponential(1, 2_000_000) - 1
    truth = {"residual_mean": 0.0, "residual_width": 1.0, "half_width_68": np.quantile(np.abs(reference), 0.68)}
    inside = dict.fromkeys(truth, 0)
    for _ in range(tries):
        measured = measure_target(generator.exponential(1, 500) - 1, np.zeros(500))
        for name in inside:
            inside[name] += measured[name]["low"] <= truth[name] <= measured[name]["high"]
    assert all(0.88 < count / tries < 0.99 for count in inside.values()), inside


def test_bins_equal_measures_of_the_events_in_them() -> None:
    truth, mean, covariance = planted(500)
    values = truth[:, 2]
    edges = equal_bins(values, 4)
    result = measure(truth, mean, covariance, binnings=[Binning("cotAlpha", values, edges)])
    bins = result["bins"]["cotAlpha"]
    assert sum(one["events"] for one in bins) == 500
    inside = (values >= edges[1]) & (values < edges[2])
    alone = measure(truth[inside], mean[inside], covariance[inside])
    assert bins[1] == {"low": edges[1], "high": edges[2], "events": int(inside.sum()), "targets": alone["targets"]}
    empty = measure(truth, mean, binnings=[Binning("cotAlpha", values, [100.0, 200.0])])["bins"]["cotAlpha"]
    assert empty == [{"low": 100.0, "high": 200.0, "events": 0, "targets": None}]


def test_estimators_without_uncertainty_have_no_pulls() -> None:
    truth, mean, _ = planted(50)
    result = measure(truth[:, :2], mean[:, :2], targets=("x", "y"))
    assert "pull_width" not in result["targets"]["x"]
    assert "joint_coverage" not in result


def test_constant_predictions_have_no_correlation() -> None:
    truth, _, covariance = planted(50)
    result = measure(truth, np.zeros_like(truth), covariance)
    assert result["targets"]["x"]["correlation"] is None
    assert measure(truth, truth, covariance)["residual_correlations"][0][0] is None
    assert measure(truth, truth, covariance)["targets"]["x"]["residual_width"]["value"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth, mean: (truth[:1], mean[:1]), "1 events with a known truth; measures need at least 2"),
        (lambda truth, mean: (truth, mean * np.nan), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: Any, message: str) -> None:
    truth, mean, _ = planted(10)
    with pytest.raises(InputError, match=message):
        measure(*change(truth, mean))


def test_angles() -> None:
    np.testing.assert_allclose(angle_degrees(np.array([0.0, 1.0, -1.0, 1e9])), [90, 45, 135, 0], atol=1e-6)


def test_centroid_is_the_mean_position_of_the_charge() -> None:
    charge = np.zeros((3, 13, 21, 2), np.float32)
    charge[0, 6, 10, 1] = 1000
    charge[1, 6, 10, 1], charge[1, 8, 11, 1] = 3000, 1000
    charge[1, 0, 0, 1] = -5000  # noise
    charge[:, 0, 0, 0] = 1e6  # another slice
    np.testing.assert_allclose(centroid(charge), [[0, 0], [12.5, 6.25], [0, 0]])


def test_eta_correction_straightens_shared_charge() -> None:
    """Charge clouds of known width, two pixels wide: the correction removes the bias between pixel centres."""
    generator = np.random.default_rng(2)
    place, pitch = generator.uniform(-75, 75, 4000), 50.0
    edges = (np.arange(22) - 10.5) * pitch
    shares = np.diff(stats.norm.cdf(edges, place[:, None], 5.0), axis=1)
    charge = np.zeros((4000, 13, 21, 1), np.float32)
    charge[:, 6, :, 0] = np.where(shares > 0.01, shares, 0) * 8000
    truth = np.stack([place, np.full(4000, 3.0)], axis=1)
    errors = {}
    for eta in (False, True):
        fit = fit_centroid(charge[:2000], truth[:2000], eta=eta)
        residuals = truth[2000:] - centroid(charge[2000:], fit)
        assert residuals[:, 1] == pytest.approx(0, abs=1e-6)
        shared = (charge[2000:, 6, :, 0] > 0).sum(axis=1) == 2
        errors[eta] = residuals[shared, 0].std()
    assert errors[True] < 0.5 * errors[False]


def test_the_ends_of_a_cluster_tell_where_an_inclined_track_was() -> None:
    """Uniform charge between two ends, which fluctuates: exact positions without, and better ones than the centroid."""
    generator = np.random.default_rng(5)
    place, length, pitch = generator.uniform(-60, 60, 4000), generator.uniform(150, 400, 4000), 50.0
    edges = (np.arange(22) - 10.5) * pitch
    low, high = (np.clip(place[:, None] + sign * length[:, None] / 2, edges[:-1], edges[1:]) for sign in (-1, 1))
    shares = (high - low) / pitch
    truth = np.stack([place, np.zeros(4000)], axis=1)
    charge = np.zeros((4000, 13, 21, 1), np.float32)
    charge[:, 6, :, 0] = shares * 4000
    fit = fit_head_tail(charge[:2000], truth[:2000], pitch=(50.0, 12.5))
    np.testing.assert_allclose(fit.weight[0, 1:], 1, atol=0.02)
    assert not fit.weight[1].any(), "no cluster is wide along y"
    exact = replace(fit, weight=np.ones((2, 5)), offset=np.zeros((2, 5)))
    charge[7, 6, 0, 0] = 300  # noise far from the cluster
    np.testing.assert_allclose(head_tail(charge, exact)[:, 0], place, atol=1e-2)
    charge[:, 6, :, 0] *= generator.uniform(0.5, 1.5, (4000, 21))
    fit = fit_head_tail(charge[:2000], truth[:2000], pitch=(50.0, 12.5))
    errors = [(truth - found)[2000:, 0].std() for found in (head_tail(charge, fit), centroid(charge, fit.centroid))]
    assert errors[0] < 0.7 * errors[1]


def test_clusters_of_two_pixels_get_the_centroid() -> None:
    clusters = simulate(2000, seed=3)
    fit = fit_head_tail(clusters.charge, clusters.labels, pitch=(50.0, 12.5))
    found, plain = head_tail(clusters.charge, fit), centroid(clusters.charge, fit.centroid)
    for axis in range(2):
        widths = np.count_nonzero(clusters.charge[..., -1].clip(0).sum(axis=1 + axis), axis=1)
        np.testing.assert_array_equal(found[widths <= 2, axis], plain[widths <= 2, axis])
        assert (found != plain)[widths > 4, axis].mean() > 0.9
    assert head_tail(np.zeros((1, 13, 21, 2)), fit).shape == (1, 2)


def test_offset_is_the_lorentz_shift() -> None:
    clusters = simulate(4000, seed=3, sensor=Sensor(lorentz=0.2))
    fit = fit_centroid(clusters.charge, clusters.labels, eta=False)
    assert fit.offset == pytest.approx([0, -10], abs=1.0)  # half the thickness times the tangent
    with pytest.raises(InputError, match="no events"):
        fit_centroid(clusters.charge[:0], clusters.labels[:0], eta=False)


def test_bound_equals_a_slow_computation() -> None:
    sensor = Sensor(fluctuation=0.1, steps=6)
    label = np.array([[10.0, 3.0, 1.5, 0.2]], np.float32)
    quiet = sensor.without_fluctuations()

    def charges(labels: np.ndarray, used: Sensor = quiet) -> np.ndarray:
        return respond(labels.astype(np.float32), np.random.default_rng(0), used)[0, ..., [0, 19]].ravel().astype(float)

    steps = np.diag([0.5, 0.1, 0.02, 0.01])
    jacobian = np.stack([(charges(label + step) - charges(label - step)) / (2 * step.max()) for step in steps], axis=1)
    samples = np.stack(
        [
            respond(label, np.random.default_rng(seed), replace(sensor, noise=0.0, threshold=0.0))[
                0, ..., [0, 19]
            ].ravel()
            for seed in range(3000)
        ]
    )
    covariance = np.cov(samples.T) + sensor.noise**2 * np.eye(samples.shape[1])
    expected = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ np.linalg.solve(covariance, jacobian))))
    np.testing.assert_allclose(cramer_rao(label, sensor)[0], expected, rtol=0.07)


def test_the_stated_bound_is_the_median_over_all_events_and_in_each_bin() -> None:
    truth = simulate(60, seed=4).labels.astype(np.float64)
    kept = {"truth": truth, "size": np.arange(60) % 30}
    stated = bound_of(kept, Sensor(), Clusters().model_dump())
    bounds = cramer_rao(truth.astype(np.float32))
    np.testing.assert_allclose([stated[name] for name in TARGETS], np.median(bounds, axis=0))
    assert [len(bins) for bins in stated["bins"].values()] == [8, 8, 8]
    edges = np.linspace(truth[:, 2].min(), truth[:, 2].max(), 9)
    place = np.clip(np.searchsorted(edges, truth[:, 2], side="right") - 1, 0, 7)
    for index, found in enumerate(stated["bins"]["cotAlpha"]):
        expected = np.median(bounds[place == index], axis=0)
        np.testing.assert_allclose([found[name] for name in TARGETS], expected)


def test_bound_grows_with_the_noise_and_needs_some() -> None:
    labels = simulate(100, seed=0).labels
    bound = cramer_rao(labels)
    assert bound.shape == (100, 4)
    assert (cramer_rao(labels, Sensor(noise=120.0)) > bound).all()
    assert (cramer_rao(labels, slices=(19,)) >= 0.999 * bound).all()
    with pytest.raises(InputError, match="without noise"):
        cramer_rao(labels, Sensor(noise=0.0))
