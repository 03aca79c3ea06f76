"""Probability of detection by size, from planted defects that were found or missed (Berens 1989, MIL-HDBK-1823A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

from pixal.errors import InputError
from pixal.validation.logistic import fit_logistic, log_likelihood

Floats = NDArray[np.float64]

LEVEL = 0.95
_TARGET = 0.9  # of a90
_TARGET_LOGIT = float(logit(_TARGET))
_NORMAL_LIMIT = float(norm.ppf(LEVEL))
_SEED = 0
_SIMULATED = 300  # data sets
_ROUNDS = 2  # of simulating the limit at the bound, and of finding the bound for this limit
_DIRECTIONS = 720  # in which the edge of the set of likely curves is searched
_TURNS = 3
_HALVINGS = 50
_ROUNDING = 1e-9  # logits per standard deviation of the log sizes; smaller slopes are 0
_FURTHEST = 60.0  # logits, and log sizes from the data, within which a bound is searched


@dataclass(frozen=True)
class DetectionCurve:
    """The probability of detection (POD) as a function of the size of a defect.

    If found and missed defects overlap in size, ``POD(a) = 1 / (1 + exp(-(intercept + slope * ln a)))`` by maximum
    likelihood, and bounds are those of the likelihood ratio. Otherwise no curve can be fitted, because any steep enough
    one agrees with the data. Then the bounds are the exact binomial ones that hold for any POD that grows with size,
    and the numbers that they do not give are None.

    Attributes:
        outcome: ``fitted``; or why no curve is fitted: ``all found``, ``none found``, ``separated`` (all defects above
            some size were found and all others missed), or ``not growing`` (larger defects were not found more often).
        intercept: Of the fitted curve, else None.
        slope: Of the fitted curve, per unit of ln(size), else None.
        sizes: The distinct sizes, ascending, (S,).
        found: Number of defects of each size that were found, (S,).
        planted: Number of defects of each size, (S,).
    """

    outcome: Literal["fitted", "all found", "none found", "separated", "not growing"]
    intercept: float | None
    slope: float | None
    sizes: Floats
    found: NDArray[np.int64]
    planted: NDArray[np.int64]

    @cached_property
    def a90(self) -> float | None:
        """The size that is found in 90 % of cases, infinite if it is too large for a float; None without a curve."""
        if self.intercept is None or self.slope is None:
            return None
        with np.errstate(over="ignore"):
            return float(np.exp((_TARGET_LOGIT - self.intercept) / self.slope))

    @cached_property
    def a90_95(self) -> float | None:
        """The size that is found in at least 90 % of cases, with 95 % confidence. None if the data do not give one.

        It can be larger than the largest planted size: then it is extrapolated.
        """
        if self.a90 is None:
            if self.outcome == "not growing":
                return None
            enough = np.flatnonzero(self._binomial_low(self.sizes, 1 - LEVEL) >= _TARGET)
            return float(self.sizes[enough[0]]) if len(enough) else None
        log_size = self._bound(_NORMAL_LIMIT)
        for _ in range(_ROUNDS):
            if log_size is not None:
                log_size = self._bound(self._simulated_limit(log_size))
        return None if log_size is None else float(np.exp(log_size))

    def probability(self, sizes: Floats) -> Floats | None:
        """Return the fitted POD at sizes (N,), or None if no curve is fitted."""
        if self.intercept is None or self.slope is None:
            return None
        return np.asarray(expit(self.intercept + self.slope * np.log(sizes)), np.float64)

    def band(self, sizes: Floats) -> tuple[Floats, Floats]:
        """Return the lower and the upper end of the POD's 95 % interval at each of some sizes, two arrays (N,)."""
        if self.intercept is None or self.slope is None:
            if self.outcome == "not growing":
                return np.zeros(len(sizes)), np.ones(len(sizes))
            tail = (1 - LEVEL) / 2
            return self._binomial_low(sizes, tail), self._binomial_high(sizes, tail)
        _, middle, scale = _standardised(np.log(self.sizes))
        at = np.column_stack([np.ones(len(sizes)), (np.log(sizes) - middle) / scale])
        logits = at @ self._confidence_set.T
        return np.asarray(expit(logits.min(1))), np.asarray(expit(logits.max(1)))

    @cached_property
    def _confidence_set(self) -> Floats:
        """Coefficients (R, 2) at the edge of the likelihood-ratio 95 % set, for the columns of ``_standardised``.

        The set holds the coefficients with a deviance below 1.96 squared. It is convex, because the log likelihood is
        concave. So the band at a size is the range of the logits of its edge.
        """
        assert self.intercept is not None
        assert self.slope is not None
        columns, middle, scale = _standardised(np.log(self.sizes))
        best = np.array([self.intercept + self.slope * middle, self.slope * scale])
        limit = float(log_likelihood(best @ columns.T, self.found[None], self.planted)[0])
        limit -= float(norm.ppf((1 + LEVEL) / 2)) ** 2 / 2
        angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
        circle = np.column_stack([np.cos(angles), np.sin(angles)])
        axes: Floats = np.eye(2)
        for _ in range(_TURNS):  # the set can be long and narrow: turn and stretch the directions to its shape
            steps = circle @ axes.T
            furthest = _FURTHEST / np.abs(steps @ columns.T).max(1)  # the set may have no end
            inner, outer = np.zeros(_DIRECTIONS), furthest
            for _ in range(_HALVINGS):
                half = (inner + outer) / 2
                is_inside = self._likelihoods(best + half[:, None] * steps, columns) > limit
                inner, outer = np.where(is_inside, half, inner), np.where(is_inside, outer, half)
            edge = inner[:, None] * steps
            axes = np.asarray(np.linalg.cholesky(np.cov(edge.T)), np.float64)
        return np.asarray(best + edge)

    def _likelihoods(self, coefficients: Floats, columns: Floats) -> Floats:
        return log_likelihood(coefficients @ columns.T, self.found, self.planted)

    def _bound(self, limit: float) -> float | None:
        """Return the log size at which the root of the deviance from a POD of 90 % reaches a limit, None if nowhere."""
        assert self.a90 is not None
        step = float(np.log(self.sizes[-1] / self.sizes[0])) / 8
        return _first_root(
            lambda log_size: self._deviance(log_size, _TARGET_LOGIT) - limit**2, float(np.log(self.a90)), 1.0, step
        )

    def _deviance(self, log_size: float, value: float) -> float:
        """Return twice the loss of log likelihood of the best curve that is ``value`` (a logit) at a size."""
        deviance, _ = _signed_deviance(np.log(self.sizes), self.found[None], self.planted, log_size, value)
        return abs(float(deviance[0]))

    def _simulated_limit(self, log_size: float) -> float:
        """Return the limit of the root of the deviance that 5 % of data sets exceed if the POD at a size is 90 %.

        With few defects per size, more than 5 % of data sets exceed the limit for many, 1.64.
        """
        _, logits = _signed_deviance(np.log(self.sizes), self.found[None], self.planted, log_size, _TARGET_LOGIT)
        generator = np.random.default_rng(_SEED)
        found = generator.binomial(self.planted, expit(logits[0]), (_SIMULATED, len(self.sizes)))
        deviance, _ = _signed_deviance(np.log(self.sizes), found, self.planted, log_size, _TARGET_LOGIT)
        roots = np.sign(deviance) * np.sqrt(np.abs(deviance))
        return max(float(np.quantile(roots, LEVEL, method="higher")), _NORMAL_LIMIT)

    def _binomial_low(self, sizes: Floats, tail: float) -> Floats:
        """The lower bound at sizes (N,) if all defects above the largest missed size were found.

        n of n defects up to a size were found. If the POD grows with size, this has at most the probability POD^n.
        """
        missed = self.sizes[self.found < self.planted]
        all_found = np.where(self.sizes > missed.max(initial=0), self.planted, 0)
        count = np.array([all_found[self.sizes <= size].sum() for size in sizes])
        return np.where(count > 0, tail ** (1 / np.maximum(count, 1)), 0.0)

    def _binomial_high(self, sizes: Floats, tail: float) -> Floats:
        found = self.sizes[self.found > 0]
        all_missed = np.where(self.sizes < found.min(initial=np.inf), self.planted, 0)
        count = np.array([all_missed[self.sizes >= size].sum() for size in sizes])
        return np.where(count > 0, 1 - tail ** (1 / np.maximum(count, 1)), 1.0)


def fit_detection_curve(sizes: NDArray[Any], found: NDArray[Any]) -> DetectionCurve:
    """Fit the probability of detection by size.

    Args:
        sizes: Size of each planted defect, (N,), above 0.
        found: Whether it was found, (N,).

    Raises:
        InputError: If there are no defects, the lengths differ, or a size is not above 0.
    """
    sizes, found = np.asarray(sizes, np.float64), np.asarray(found, bool)
    if sizes.ndim != 1 or sizes.shape != found.shape or not len(sizes):
        raise InputError(
            f"{sizes.shape} sizes and {found.shape} outcomes of planted defects: there must be one per defect"
        )
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError("the sizes of planted defects must be above 0 and finite")
    distinct, index = np.unique(sizes, return_inverse=True)
    planted = np.bincount(index)
    hits = np.bincount(index, weights=found).astype(np.int64)
    if found.all():
        return DetectionCurve("all found", None, None, distinct, hits, planted)
    if not found.any():
        return DetectionCurve("none found", None, None, distinct, hits, planted)
    largest_missed, smallest_found = sizes[~found].max(), sizes[found].min()
    if largest_missed < smallest_found:
        return DetectionCurve("separated", None, None, distinct, hits, planted)
    if len(distinct) == 1 or sizes[found].max() <= sizes[~found].min():
        return DetectionCurve("not growing", None, None, distinct, hits, planted)
    columns, middle, scale = _standardised(np.log(distinct))
    level, steepness = fit_logistic(columns, hits[None], planted)[0]
    if steepness <= _ROUNDING:
        return DetectionCurve("not growing", None, None, distinct, hits, planted)
    slope = float(steepness / scale)
    return DetectionCurve("fitted", float(level - slope * middle), slope, distinct, hits, planted)


def _signed_deviance(
    log_sizes: Floats, found: NDArray[np.int64], planted: NDArray[np.int64], log_size: float, value: float
) -> tuple[Floats, Floats]:
    """Compare the best curve with the best one that is ``value`` (a logit) at a size, for sets of counts (B, S).

    Returns:
        Twice the difference of their log likelihoods (B,), negative where the best curve is lower than ``value`` at the
        size; and the logits (B, S) of the second curve at all sizes.
    """
    columns, middle, scale = _standardised(log_sizes)
    best = fit_logistic(columns, found, planted)
    distance = (log_sizes - log_size) / max(float(np.abs(log_sizes - log_size).max()), 1e-9)
    constrained = value + fit_logistic(distance[:, None], found, planted, value) * distance
    loss = log_likelihood(best @ columns.T, found, planted) - log_likelihood(constrained, found, planted)
    above = best @ [1, (log_size - middle) / scale] - value
    return np.asarray(2 * np.maximum(loss, 0) * np.sign(above)), constrained


def _standardised(log_sizes: Floats) -> tuple[Floats, float, float]:
    """Return ones and the log sizes, moved and scaled to mean 0 and standard deviation 1 (S, 2), and these two."""
    middle, scale = float(log_sizes.mean()), float(log_sizes.std())
    return np.column_stack([np.ones(len(log_sizes)), (log_sizes - middle) / scale]), middle, scale


def _first_root(function: Callable[[float], float], start: float, sign: float, step: float) -> float | None:
    """Return where a function that is below 0 at ``start`` reaches 0 in a direction, or None if it does not."""
    inner, width = start, step
    while abs(inner - start) < _FURTHEST:
        outer = inner + sign * width
        if function(outer) >= 0:
            return float(brentq(function, inner, outer, xtol=1e-6))
        inner, width = outer, 2 * width
    return None
