"""Measures of predictions against the truth, with intervals: residuals, pulls, coverage, correlations.

All intervals hold 95 % and have a closed form, so time and memory stay small for millions of events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pixal.errors import InputError
from pixal.validation.intervals import LEVEL, rate_interval

Array = NDArray[np.float64]

TARGETS, UNITS = ("x", "y", "cotAlpha", "cotBeta"), ("µm", "µm", "", "")
COVERAGES = 0.68, 0.95
MIN_EVENTS = 2
"""Fewer events have no width."""


def normal_factors() -> Array:
    """Half widths of the intervals that hold ``COVERAGES`` of a normal distribution, in standard deviations, (2,)."""
    return np.asarray(stats.norm.ppf(0.5 + np.array(COVERAGES) / 2))


_Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Binning:
    """A quantity in whose bins predictions are measured separately.

    Attributes:
        name: Name of the quantity.
        values: Its value for each event, (n,).
        edges: Edges of the bins, rising; a bin holds its lower edge, the last one also its upper edge.
    """

    name: str
    values: NDArray[Any]
    edges: Sequence[float]

    def inside(self, index: int) -> NDArray[np.bool_]:
        """Which events are in bin ``index``, (n,)."""
        low, high = self.edges[index], self.edges[index + 1]
        is_last = index == len(self.edges) - 2
        return np.asarray((self.values >= low) & ((self.values < high) | (is_last & (self.values == high))))


def measure(
    truth: NDArray[Any],
    mean: NDArray[Any],
    covariance: NDArray[Any] | None = None,
    *,
    factors: Array | None = None,
    binnings: Sequence[Binning] = (),
    targets: Sequence[str] = TARGETS,
) -> dict[str, Any]:
    """Measure predictions against the truth.

    A residual is truth - prediction, a pull is the residual divided by the predicted standard deviation.

    Args:
        truth: (n, T), in the units of the labels.
        mean: The predictions, (n, T).
        covariance: The predicted covariances, (n, T, T); None: the estimator predicts none, and there are no pulls.
        factors: Half widths of the calibrated intervals in predicted standard deviations, (2, T), or None.
        binnings: Quantities for ``bins``.
        targets: The T names.

    Returns:
        JSON values: ``events``; ``targets``: for each name what ``measure_target`` returns;
        ``residual_correlations`` and ``pull_correlations`` (T, T); ``joint_coverage``: the fraction of events whose
        truth is within the predicted ellipsoid of that probability; ``bins``: for each binning a list with the edges
        of each bin, its number of events, and its ``targets``, None where it has fewer than ``MIN_EVENTS``.

    Raises:
        InputError: There are fewer than ``MIN_EVENTS`` events, or a value is not finite.
    """
    truth, mean = np.asarray(truth, np.float64), np.asarray(mean, np.float64)
    if len(truth) < MIN_EVENTS:
        raise InputError(f"{len(truth)} events with a known truth; measures need at least {MIN_EVENTS}")
    if not np.isfinite(truth).all() or not np.isfinite(mean).all():
        raise InputError("a true or predicted value is not finite; measures need finite values")
    sigma = None if covariance is None else standard_deviations(covariance)
    residuals = truth - mean
    result: dict[str, Any] = {
        "events": len(truth),
        "targets": _measure_targets(truth, mean, sigma, targets, factors),
        "residual_correlations": _correlations(residuals),
    }
    if covariance is not None and sigma is not None:
        result["pull_correlations"] = _correlations(residuals / sigma)
        result["joint_coverage"] = _joint_coverage(residuals, covariance)
    result["bins"] = {
        binning.name: [
            _measure_bin(truth, mean, sigma, targets, factors, binning, index)
            for index in range(len(binning.edges) - 1)
        ]
        for binning in binnings
    }
    return result


def measure_target(
    truth: Array, prediction: Array, sigma: Array | None = None, factors: Array | None = None
) -> dict[str, Any]:
    """Measure the predictions of one target.

    Args:
        truth: (n,), n at least ``MIN_EVENTS``.
        prediction: (n,).
        sigma: Predicted standard deviations, (n,), or None.
        factors: Half widths of the calibrated intervals in standard deviations, (2,), or None.

    Returns:
        By name, ``value`` and its 95 % interval ``low``, ``high``: ``residual_mean``; ``residual_width``, the standard
        deviation; ``half_width_68`` and ``half_width_95``, the distance from 0 within which that fraction of the
        residuals is; ``correlation`` of prediction and truth, None if one of them is constant; with ``sigma`` also
        ``pull_mean``, ``pull_width``, ``coverage_68`` and ``coverage_95`` of the intervals of a normal distribution;
        with ``factors`` also ``interval_coverage_68`` and ``interval_coverage_95``, of the calibrated intervals.
    """
    residuals = truth - prediction
    distances = np.sort(np.abs(residuals))
    result = {
        "residual_mean": _mean(residuals),
        "residual_width": _width(residuals),
        "half_width_68": _quantile(distances, COVERAGES[0]),
        "half_width_95": _quantile(distances, COVERAGES[1]),
        "correlation": _correlation(truth, prediction),
    }
    if sigma is not None:
        pulls = residuals / sigma
        result |= {"pull_mean": _mean(pulls), "pull_width": _width(pulls)}
        for name, limits in (("coverage", normal_factors()), ("interval_coverage", factors)):
            for level, limit in zip(COVERAGES, () if limits is None else limits, strict=limits is not None):
                inside = int((np.abs(pulls) <= limit).sum())
                result[f"{name}_{level * 100:.0f}"] = _rate(inside, len(pulls))
    return result


def standard_deviations(covariance: NDArray[Any]) -> Array:
    """Standard deviations (n, T) of covariances (n, T, T)."""
    return np.asarray(np.sqrt(np.diagonal(np.asarray(covariance, np.float64), axis1=1, axis2=2)))


def angle_degrees(cotangent: NDArray[Any]) -> Array:
    """Angles in degrees, from 0 to 180, whose cotangents these are."""
    return np.asarray(np.degrees(np.arctan2(1.0, np.asarray(cotangent, np.float64))))


def equal_bins(values: NDArray[Any], count: int) -> list[float]:
    """Edges of ``count`` bins of equal width over the values."""
    return [float(edge) for edge in np.linspace(np.min(values), np.max(values), count + 1)]


def _measure_targets(
    truth: Array, mean: Array, sigma: Array | None, targets: Sequence[str], factors: Array | None
) -> dict[str, Any]:
    return {
        name: measure_target(
            truth[:, index],
            mean[:, index],
            None if sigma is None else sigma[:, index],
            None if factors is None else factors[:, index],
        )
        for index, name in enumerate(targets)
    }


def _measure_bin(
    truth: Array,
    mean: Array,
    sigma: Array | None,
    targets: Sequence[str],
    factors: Array | None,
    binning: Binning,
    index: int,
) -> dict[str, Any]:
    low, high = binning.edges[index], binning.edges[index + 1]
    inside = binning.inside(index)
    count = int(inside.sum())
    measured = None
    if count >= MIN_EVENTS:
        chosen = None if sigma is None else sigma[inside]
        measured = _measure_targets(truth[inside], mean[inside], chosen, targets, factors)
    return {"low": float(low), "high": float(high), "events": count, "targets": measured}


def _joint_coverage(residuals: Array, covariance: NDArray[Any]) -> dict[str, Any]:
    """The coverage of ellipsoids: squared Mahalanobis distances have a chi-squared distribution."""
    solved = np.linalg.solve(np.asarray(covariance, np.float64), residuals[..., None])[..., 0]
    squares = (residuals * solved).sum(axis=1)
    limits = {f"{level * 100:.0f}": stats.chi2.ppf(level, residuals.shape[1]) for level in COVERAGES}
    return {name: _rate(int((squares <= limit).sum()), len(squares)) for name, limit in limits.items()}


def _measured(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": float(value), "low": float(low), "high": float(high)}


def _rate(count: int, total: int) -> dict[str, float]:
    return _measured(count / total, *rate_interval(count, total))


def _mean(values: Array) -> dict[str, float]:
    mean, error = values.mean(), _Z * values.std(ddof=1) / math.sqrt(len(values))
    return _measured(mean, mean - error, mean + error)


def _width(values: Array) -> dict[str, float]:
    """The standard deviation; its error follows from the fourth moment, as tails are not normal.

    The variance of a sample variance is about (m4 - m2²)/n (Cramér, Mathematical Methods of Statistics, 1946, 27.4).
    """
    width = float(values.std(ddof=1))
    if not width:
        return _measured(0.0, 0.0, 0.0)
    scaled = (values - values.mean()) / width
    error = _Z * width * math.sqrt(max(float((scaled**4).mean()) - 1, 0.0) / (4 * len(values)))
    return _measured(width, max(width - error, 0.0), width + error)


def _quantile(ordered: Array, level: float) -> dict[str, float]:
    """A quantile of sorted values; the interval is between order statistics and needs no distribution."""
    low, high = stats.binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], len(ordered), level)
    last = len(ordered) - 1
    value = float(np.quantile(ordered, level))
    return _measured(value, min(ordered[int(max(low - 1, 0))], value), max(ordered[int(min(high, last))], value))


def _correlation(first: Array, second: Array) -> dict[str, float] | None:
    """Pearson's correlation; its interval by Fisher's transformation (1921)."""
    if not first.std() or not second.std():
        return None
    value = float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))
    if len(first) <= 3 or abs(value) == 1:
        return _measured(value, -1.0 if abs(value) < 1 else value, 1.0 if abs(value) < 1 else value)
    error = _Z / math.sqrt(len(first) - 3)
    return _measured(value, math.tanh(math.atanh(value) - error), math.tanh(math.atanh(value) + error))


def _correlations(values: Array) -> list[list[float | None]]:
    """Correlations of the columns; None where a column is constant."""
    centred = values - values.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    products = centred.T @ centred
    return [
        [
            float(products[row, column] / (scale[row] * scale[column])) if scale[row] * scale[column] else None
            for column in range(len(scale))
        ]
        for row in range(len(scale))
    ]
