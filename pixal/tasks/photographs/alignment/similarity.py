"""The structural similarity of two images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7
"""Side of the window in pixels; images must be at least as large."""

_RANGE = 255.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2  # the constants of the authors
_SAMPLE = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)  # variances of a sample


def structural_similarity(image: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the structural similarity at each pixel (Wang et al. 2004), (H, W).

    As that of scikit-image, of which the import and the uniform filter take several times as long.

    Args:
        image: Grey levels from 0 to 255, (H, W).
        other: As ``image``.
    """
    x, y = image.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _mean(x), _mean(y)
    product = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    variances = _SAMPLE * (_mean(x * x + y * y) - squares)
    covariance = _SAMPLE * (_mean(x * y) - product)
    similarity: NDArray[np.float64] = (
        (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    )
    return similarity


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the window around each pixel; the image is mirrored at its border."""
    return np.asarray(cv2.blur(values, (SSIM_WINDOW, SSIM_WINDOW), borderType=cv2.BORDER_REFLECT), np.float64)
