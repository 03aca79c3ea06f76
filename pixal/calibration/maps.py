"""Anomaly maps and scores from the errors of a model; the same for every model family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.spread import Maps, blur


def above(errors: Maps, center: NDArray[np.float32] | None) -> Maps:
    """Return what counts as a deviation.

    Args:
        errors: (N, H, W, C).
        center: (H, W, 1), the mean distance of good parts if the errors are distances; else None.

    Returns:
        How far the distances exceed ``center``, 0 where they do not; the errors unchanged if ``center`` is None.
    """
    return errors if center is None else np.maximum(errors - center, 0)


def calibrated_maps(
    errors: Maps,
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
) -> Maps:
    """Return anomaly maps in standard deviations of good parts.

    The value at a pixel is the root mean square, over channels and a neighbourhood, of error / standard deviation.

    Args:
        errors: (N, H, W, C).
        variance: (H, W, C), the variance of the errors of good parts, above 0.
        mask: (H, W), the pixels of the part; the maps are 0 outside.
        weights: (C,), the weight of each channel, at least 0.
        smoothing: The Gaussian sigma of the neighbourhood, input pixels; 0 for none.

    Returns:
        (N, H, W), at least 0.
    """
    shares = (weights / weights.sum()).astype(np.float32) / variance
    return np.sqrt(_smooth(np.einsum("nhwc,nhwc,hwc->nhw", errors, errors, shares), mask, smoothing))


def raw_maps(losses: Maps, mask: NDArray[np.bool_], weights: NDArray[np.float32], smoothing: float) -> Maps:
    """Return maps (N, H, W) of the loss (N, H, W, C) without calibration, for a numeric ``loss_cut``.

    The other arguments are those of ``calibrated_maps``.
    """
    shares = (weights / weights.sum()).astype(np.float32)
    return _smooth(losses @ shares, mask, smoothing)


def part_scores(maps: Maps) -> NDArray[np.float64]:
    """Return the score of each part, (N,): the largest value of its map (H, W)."""
    return np.asarray(maps.reshape(len(maps), -1).max(1), np.float64)


def _smooth(values: Maps, mask: NDArray[np.bool_], sigma: float) -> Maps:
    values = values * mask
    if sigma > 0:
        values = np.stack([blur(value, sigma) for value in values]) if len(values) else values
    return values * mask
