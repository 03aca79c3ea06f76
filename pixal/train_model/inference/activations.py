"""The activations of the networks, in NumPy: the same formulas as in Keras."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

VARIANCES = 1e-8, 1.0
"""Bounds of the variance of values in [0, 1]: a tenth of a 10-bit level, squared; and more than any value can have."""

MAX_GAIN = 4.0
"""The largest magnitude of a gain; the standard deviation changes by at most a factor of 7."""

EDGE = 1e-3
"""How far from its bounds an activation is inverted, because at its bounds it has no finite inverse."""


def activate(values: Values, activation: str) -> Values:
    """Apply an activation: linear, relu, sigmoid or tanh."""
    if activation == "relu":
        return np.maximum(values, 0)
    if activation == "sigmoid":
        return _sigmoid(values)
    if activation == "tanh":
        return np.asarray(np.tanh(values), np.float32)
    return values


def activate_deviation(mean: Values, deviation: Values, activation: str) -> Values:
    """Add a deviation to a mean within the bounds of an activation; see ``projection_layer.activated``."""
    if activation in ("linear", "relu"):
        return activate(mean + deviation, activation)
    if activation == "sigmoid":
        inner = np.clip(mean, np.float32(EDGE), np.float32(1 - EDGE))
        return _sigmoid(np.log(inner / (1 - inner)) + deviation / (inner * (1 - inner)))
    inner = np.clip(mean, np.float32(0), np.float32(1 - EDGE))
    return np.asarray(np.tanh(np.arctanh(inner) + deviation / (1 - inner * inner)), np.float32)


def bounded_gains(gains: Values) -> Values:
    """Bound gains smoothly between -4 and 4; see ``log_variance.bounded_gains``."""
    return np.asarray(np.float32(MAX_GAIN) * np.tanh(gains / np.float32(MAX_GAIN)), np.float32)


def bounded_log_variance(log_variance: Values) -> Values:
    """Limit a log-variance to the logarithms of ``VARIANCES``; see ``losses.bounded_log_variance``."""
    low, high = (np.float32(math.log(variance)) for variance in VARIANCES)
    return np.asarray(low + _softplus(high - _softplus(high - log_variance) - low), np.float32)


def _sigmoid(values: Values) -> Values:
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and the result 0
        return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def _softplus(values: Values) -> Values:
    return np.asarray(np.logaddexp(values, np.float32(0)), np.float32)
