"""How detection depends on the place: how much worse than average defects are found near each point of a part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

_DEFECTS = 12.0  # that a point's estimate rests on, as an effective number (Kish 1965)
_DEVIATION = 2.0  # standard deviation of the shift between places, in logits, before the data are seen
_ROUNDS = 25  # of Newton's method
_LARGEST_STEP = 2.0  # logits
_POINTS = 256  # in memory at a time


def resolution(area: float, count: int) -> float:
    """Return the standard deviation in pixels of the Gaussian weights of ``local_shift``.

    With ``count`` defects spread evenly over ``area`` square pixels, each point rests on about 12 of them: the
    effective number of Gaussian weights is 4 pi sigma^2 times the density.
    """
    return float(np.sqrt(_DEFECTS * area / (4 * np.pi * max(count, 1))))


def local_shift(logits: Floats, found: NDArray[np.bool_], places: Floats, points: Floats, sigma: float) -> Floats:
    """Return how the logit of the probability of detection near each point differs from that of all places.

    The shift d maximises the likelihood of the defects around the point, each with the logit ``logits + d`` and a
    Gaussian weight (local likelihood, Tibshirani and Hastie 1987), times a normal prior around 0 with a standard
    deviation of 2. Without defects nearby it is 0.

    Args:
        logits: (N,), the logit of the probability of detection of each defect by its kind, size and contrast.
        found: (N,), whether it was found.
        places: (N, 2), where it was planted, in pixels.
        points: (M, 2), where to estimate the shift, in pixels.
        sigma: Standard deviation of the weights in pixels, see ``resolution``.

    Returns:
        (M,), below 0 where defects are harder to find.
    """
    shifts = np.zeros(len(points))
    for start in range(0, len(points), _POINTS):
        chunk = points[start : start + _POINTS]
        squared = ((chunk[:, None] - places) ** 2).sum(-1)
        weights = np.exp(-squared / (2 * sigma**2))
        shift = np.zeros(len(chunk))
        for _ in range(_ROUNDS):
            expected = expit(logits + shift[:, None])
            slope = (weights * (found - expected)).sum(1) - shift / _DEVIATION**2
            curvature = (weights * expected * (1 - expected)).sum(1) + 1 / _DEVIATION**2
            step = np.clip(slope / curvature, -_LARGEST_STEP, _LARGEST_STEP)
            shift += step
            if np.abs(step).max(initial=0.0) < 1e-6:
                break
        shifts[start : start + _POINTS] = shift
    return shifts
