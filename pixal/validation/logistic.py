"""Logistic regression of many sets of counts at once, by maximum likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]

_STEPS = 40  # at most, of Newton's method; about 8 are needed where the maximum is finite
_LONGEST = 4.0  # a step, in units of the logit; where the maximum is infinite it is not reached, but its likelihood is
_CONVERGED = 1e-7  # gain of log likelihood
_RIDGE = 1e-9  # keeps the equations solvable where the counts say nothing


def log_likelihood(logits: Floats, hits: NDArray[Any], trials: NDArray[Any]) -> Floats:
    """Return the log likelihood (B,) of counts ``hits`` (B, S) of ``trials`` (S,) with the logits (B, S)."""
    return np.asarray((hits * log_expit(logits) + (trials - hits) * log_expit(-logits)).sum(-1))


def fit_logistic(columns: Floats, hits: NDArray[Any], trials: NDArray[Any], offset: float = 0.0) -> Floats:
    """Return the coefficients (B, K) of the models ``logit = offset + columns @ coefficients`` by Newton's method.

    Args:
        columns: (S, K), K = 1 or 2, of the order of 1.
        hits: Counts, (B, S).
        trials: Of how many, (S,).
        offset: The logit where the columns are 0.
    """
    coefficients = np.zeros((len(hits), columns.shape[1]))
    value = log_likelihood(np.full(hits.shape, offset), hits, trials)
    for _ in range(_STEPS):
        probability = expit(offset + coefficients @ columns.T)
        gradient = (hits - trials * probability) @ columns
        weights = trials * probability * (1 - probability)
        curvature = np.einsum("bs,sk,sl->bkl", weights, columns, columns) + _RIDGE * np.eye(columns.shape[1])
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        step *= np.minimum(1, _LONGEST / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        new = log_likelihood(offset + (coefficients + step) @ columns.T, hits, trials)
        while (worse := new < value - _CONVERGED).any():
            step[worse] /= 2
            new = log_likelihood(offset + (coefficients + step) @ columns.T, hits, trials)
        coefficients, gain, value = coefficients + step, new - value, new
        if (gain < _CONVERGED).all():
            break
    return coefficients
