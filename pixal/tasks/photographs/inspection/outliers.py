"""Find photographs that differ from the others of their type: in one figure, or in several together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, median_abs_deviation, norm

Values = NDArray[np.float64]
"""A figure of N photographs, (N,)."""

Z_LIMIT = 3.5
"""Robust z-score from which on a value is an outlier (Iglewicz and Hoaglin 1993)."""

_MIN_PHOTOGRAPHS = 5  # with fewer, a median says little about what is usual
_MIN_PER_FIGURE = 10  # photographs, for a covariance
_FALSE_ALARMS_TOGETHER = 0.01  # probability of any outlier among photographs that follow a normal distribution
# The smallest difference from the median that is reported. It is relative for figures that are ratios.
_MIN_RELATIVE = {"brightness": 0.15, "warmth": 0.06, "tint": 0.06, "spread": 0.2, "noise": 0.5, "sharpness": 0.2}
_MIN_ABSOLUTE = {"clipped_dark": 0.05, "clipped_bright": 0.05}
_TINY = 1e-9  # smaller levels have no logarithm that means anything
TOGETHER = tuple(_MIN_RELATIVE)
"""The figures whose combination is also tested."""


def robust_scores(values: Mapping[str, Values]) -> dict[str, Values]:
    """Return how far each value lies from the median, in robust standard deviations.

    The logarithm of a ratio is taken first. The standard deviation is that of a normal distribution with the same
    median absolute deviation. It is at least a ``Z_LIMIT``-th of the smallest difference that matters, so photographs
    that are nearly equal have no outliers.

    Args:
        values: The values of each figure, (N,); NaN where it is unknown.

    Returns:
        The signed scores, (N,) per figure. They are 0 where a value is unknown, and for fewer than 5 photographs.
    """
    scores = {}
    for name, column in values.items():
        column, smallest = _scaled(name, column)
        known = column[np.isfinite(column)]
        scores[name] = np.zeros(len(column))
        if len(known) >= _MIN_PHOTOGRAPHS:
            spread = max(_robust_spread(name, known), smallest / Z_LIMIT)
            scores[name] = np.nan_to_num((column - np.median(known)) / spread, nan=0.0)
    return scores


def unusual_together(values: Mapping[str, Values]) -> NDArray[np.bool_]:
    """Find photographs whose combination of figures is unusual, though each figure may be usual.

    The distance is that of Mahalanobis with the minimum covariance determinant (Rousseeuw and Van Driessen 1999),
    which outliers do not change. The square of the smallest difference that matters is added to each variance.

    Args:
        values: The values of each figure in ``TOGETHER``, (N,); NaN where it is unknown.

    Returns:
        Whether each photograph is unusual, (N,). None is for fewer than ten photographs per figure.
    """
    columns, smallest = zip(*(_scaled(name, values[name]) for name in TOGETHER), strict=True)
    rows = np.stack(columns, axis=1)
    unusual = np.zeros(len(rows), bool)
    known = np.isfinite(rows).all(axis=1)
    if known.sum() < _MIN_PER_FIGURE:
        return unusual
    varies = median_abs_deviation(rows[known], axis=0) > 0  # another figure would make the covariance singular
    rows = rows[np.ix_(known, varies)]
    count, figures = rows.shape
    if figures < 2 or count < _MIN_PER_FIGURE * figures:
        return unusual
    unusual[known] = _squared_distances(rows, np.array(smallest)[varies] / Z_LIMIT) > _distance_limit(count, figures)
    return unusual


def _robust_spread(name: str, column: Values) -> float:
    """Robust standard deviation: of the inner half of the values, or of the inner 80 % for clipped fractions.

    A surface that is nearly saturated is clipped in some photographs and not in others, which no inner half shows.
    """
    spread = float(median_abs_deviation(column, scale="normal"))
    if name not in _MIN_ABSOLUTE:
        return spread
    low, high = np.quantile(column, (0.1, 0.9))
    return max(spread, float((high - low) / (2 * norm.ppf(0.9))))


def _scaled(name: str, column: Values) -> tuple[Values, float]:
    """The values on the scale on which they are compared, and the smallest difference that matters there."""
    if name in _MIN_ABSOLUTE:
        return column, _MIN_ABSOLUTE[name]
    return np.log(np.maximum(column, _TINY)), float(np.log1p(_MIN_RELATIVE[name]))


def _squared_distances(rows: NDArray[np.float64], smallest: Values) -> Values:
    """Squared robust distances of the rows (N, K); ``smallest`` (K,) are the least standard deviations."""
    from sklearn.covariance import MinCovDet  # takes a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about figures that depend on each other
        estimate = MinCovDet(random_state=0).fit(rows)
    centred = rows - estimate.location_
    covariance = estimate.covariance_ + np.diag(smallest**2)
    return np.asarray(np.einsum("nk,kn->n", centred, np.linalg.solve(covariance, centred.T)), np.float64)


def _distance_limit(count: int, figures: int) -> float:
    """Limit of the largest of ``count`` squared distances.

    For many photographs the distances follow a chi-squared distribution. For few the estimated covariance is too small;
    the factor bounds the 99 % quantiles of the largest distance in simulations with 6 figures of 60 to 500 photographs.
    """
    quantile = chi2.ppf((1 - _FALSE_ALARMS_TOGETHER) ** (1 / count), figures)
    return float(quantile * (1 + (15 * figures / count) ** 1.8))
