"""The smallest standard deviations that the simulated sensor allows: the Cramér-Rao bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.charge_clusters.simulation import Sensor, step_charge

_DIFFERENCES = 0.5, 0.1, 0.02, 0.01  # half steps of numerical derivatives with respect to x, y (µm), cotAlpha, cotBeta
_CHUNK = 64  # tracks at a time: the charge of each step on each pixel is held


def cramer_rao(
    labels: NDArray[Any], sensor: Sensor | None = None, slices: Sequence[int] = (0, 19)
) -> NDArray[np.float64]:
    """The Cramér-Rao bound of the standard deviation of an unbiased estimate, for each track and target.

    The charges are taken as normal around their mean, with the covariance that follows from the noise and from the
    fluctuations of the energy loss, and without a threshold. The information is Jᵀ C⁻¹ J with the Jacobian J of the
    mean charges and their covariance C = noise² I + V Vᵀ (Woodbury). For real, skewed fluctuations it is the variance
    of the best estimate that is linear in the charges.

    Args:
        labels: True x and y (µm), cotAlpha, cotBeta, (n, 4).
        sensor: The sensor; its noise is above 0. None: the default one.
        slices: The slices that the estimate uses, counted from 0.

    Returns:
        Standard deviations, (n, 4); infinite where the charges do not depend on a target.

    Raises:
        InputError: The sensor has no noise.
    """
    used = sensor or Sensor()
    if not used.noise:
        raise InputError("a sensor without noise has no Cramér-Rao bound")
    chunks = [labels[start : start + _CHUNK] for start in range(0, len(labels), _CHUNK)]
    bounds = [_bounds(np.asarray(chunk, np.float32), used, slices) for chunk in chunks]
    return np.concatenate(bounds) if bounds else np.empty((0, 4))


def _bounds(labels: NDArray[np.float32], sensor: Sensor, slices: Sequence[int]) -> NDArray[np.float64]:
    jacobian = np.stack([_derivative(labels, target, sensor, slices) for target in range(4)], axis=2)  # (n, P, 4)
    # Moyal's distribution has the variance pi²/2.
    relative = sensor.fluctuation * math.pi / math.sqrt(2)
    spread = relative * step_charge(labels, sensor, slices).transpose(0, 2, 1)  # (n, P, steps)
    across = spread.transpose(0, 2, 1) @ jacobian
    inner = spread.transpose(0, 2, 1) @ spread + sensor.noise**2 * np.eye(spread.shape[2])
    information = jacobian.transpose(0, 2, 1) @ jacobian - across.transpose(0, 2, 1) @ np.linalg.solve(inner, across)
    information /= sensor.noise**2
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=1, axis2=2), np.finfo(float).tiny))
    scaled = information / (scale[:, :, None] * scale[:, None, :])  # the targets have very different units
    is_regular = np.linalg.cond(scaled) < 1e12
    bounds = np.full((len(labels), 4), np.inf)
    variances = np.diagonal(np.linalg.inv(scaled[is_regular]), axis1=1, axis2=2)
    bounds[is_regular] = np.sqrt(variances) / scale[is_regular]
    return bounds


def _derivative(labels: NDArray[np.float32], target: int, sensor: Sensor, slices: Sequence[int]) -> NDArray[np.float64]:
    """The derivative of the mean charges (n, P) with respect to one target."""
    shift = np.zeros(4, np.float32)
    shift[target] = _DIFFERENCES[target]
    above, below = (step_charge(labels + sign * shift, sensor, slices).sum(axis=1) for sign in (1, -1))
    return np.asarray((above - below) / (2 * _DIFFERENCES[target]))
